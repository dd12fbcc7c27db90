"""The live app for a long time, with faults: what leaks, and what does not come back."""
