"""What must hold, one after another, before the avatar may go live."""

from dataclasses import dataclass

from app.ui.languages import capital, full_sentence, tr
from mcnet.phrases import phrase


@dataclass(frozen=True)
class Link:
    """One link of the chain from the camera to the call.

    Attributes:
        done: proven.
        text: how it stands, for people.
        failed: it needs a hand.
        slow: it is proven, but too slow to be of use; the text says what to do.
    """

    done: bool = False
    text: str = ""
    failed: bool = False
    slow: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something is to be done about it."""
        return self.failed or self.slow


@dataclass(frozen=True)
class Chain:
    """What must hold before the avatar may go live.

    Attributes:
        model, camera, portrait, calibration, virtual_camera: the links.
        absolute: whether motion is absolute, which needs no calibration.
    """

    model: Link = Link(text=phrase("the model is loading"))
    camera: Link = Link(text=phrase("no camera yet: choose one under Camera"))
    portrait: Link = Link(text=phrase("no portrait yet: choose one, or add yours"))
    calibration: Link = Link(text=phrase("not calibrated yet: look into the camera, or press Calibrate"))
    virtual_camera: Link = Link(text=phrase("the virtual camera is off: switch it on for a call"))
    absolute: bool = False

    def missing(self) -> str:
        """The first link that does not hold, in a sentence; "" where all do."""
        return next((link.text for _, link in self.links() if not link.done), "")

    def missing_name(self) -> str:
        """The name of that link."""
        return next((name for name, link in self.links() if not link.done), "")

    def sentence(self) -> str:
        """What is wrong, or else what is missing, and what to do; that all is well where it is."""
        links = [link for _, link in self.links() if link.wrong or not link.done]
        if not links:
            return tr("Everything is ready.")
        return full_sentence(capital(next((link for link in links if link.wrong), links[0]).text))

    def pose(self) -> Link:
        """The calibration's link, which absolute motion does not need."""
        return Link(True, phrase("not needed in absolute motion")) if self.absolute else self.calibration

    def links(self) -> tuple[tuple[str, Link], ...]:
        """All of them by name, in the order in which they come about."""
        return (
            (phrase("model"), self.model),
            (phrase("camera"), self.camera),
            (phrase("portrait"), self.portrait),
            (phrase("calibration"), self.pose()),
            (phrase("virtual camera"), self.virtual_camera),
        )
