"""Content Credentials: a signed statement in a file that says that a model generated it, as the C2PA standard has it.

`manifest.py` says what is stated, signs it and reads it back; `identity.py` has the certificate; `process.py` signs in
a process of its own. What a statement is worth, and what not, is told in docs/disclosure.md.
"""

from mcnet.disclosure.errors import DisclosureError
from mcnet.disclosure.identity import Identity, SigningFiles, find_identity
from mcnet.disclosure.manifest import Credentials, Generated, ModelUsed, disclose, read_credentials

__all__ = [
    "Credentials",
    "DisclosureError",
    "Generated",
    "Identity",
    "ModelUsed",
    "SigningFiles",
    "disclose",
    "find_identity",
    "read_credentials",
]
