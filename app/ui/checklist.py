"""The first launch's six steps, inside the window. Nothing waits for them and nothing is hidden by them."""

from dataclasses import dataclass

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.ui.chain import Chain, Link
from app.ui.flow import FlowLayout
from app.ui.languages import capital, tr
from app.ui.session import Session
from app.ui.status import calibration_request
from app.ui.theme import pixmap, theme_in_use
from app.ui.widgets import ElidedLabel, button, label, restyle, set_tip

_GAP_PX = 8


@dataclass(frozen=True)
class _Standing:
    """How a step stands."""

    done: bool
    failed: bool
    text: str
    can_act: bool


class Step(QFrame):
    """One step: a number or tick, a title, how it stands, and what can be done.

    Attributes:
        action: what can be done; hidden where there is nothing.
        done: whether it is behind us.
    """

    def __init__(self, number: int, title: str, action: str, tip: str) -> None:
        super().__init__()
        self.setObjectName("Step")
        self.done = False
        self._number, self._title = number, title
        self._mark = QLabel()
        self._mark.setFixedSize(18, 18)
        self._text = ElidedLabel()
        self.action = button(action, tip=tip, kind="link")
        self.action.setVisible(bool(action))
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._mark)
        head.addWidget(label(title, "title"))
        head.addStretch(1)
        head.addWidget(self.action)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 7, 8, 7)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self._text)
        self.show_standing(_Standing(False, False, "", True))

    def show_standing(self, standing: _Standing) -> None:
        """Show how it stands."""
        self.done = standing.done
        theme = theme_in_use()
        name, colour = ("done", theme.live) if standing.done else ("todo", theme.muted)
        if standing.failed:
            name, colour = "warning", theme.warning
        self._mark.setPixmap(pixmap(name, colour, 18, self.devicePixelRatioF()))
        self._text.setText(standing.text)
        self.action.setEnabled(standing.can_act)
        restyle(self, "done", "true" if standing.done else "false")
        state = tr("needs a hand") if standing.failed else tr("done") if standing.done else tr("to do")
        self.setAccessibleName(
            tr(
                "Step {number}, {title}: {state}. {text}",
                number=self._number,
                title=self._title,
                state=state,
                text=standing.text,
            )
        )


class Checklist(QFrame):
    """Six steps to the first call: all of them, or the next one alone where there is no room for more.

    Attributes:
        steps: in order: computer, camera, virtual camera, portrait, calibration, going live.
        close_button: puts the checklist away for good.

    Signals:
        put_away: the user does not want to see it any more.
        portrait_wanted: the user wants to add a portrait.
    """

    put_away = pyqtSignal()
    portrait_wanted = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.setProperty("role", "panel")
        self.setAccessibleName(tr("First steps"))
        self.close_button = button(
            tr("Hide"), tip=tr("Put the first steps away; they come back under Window"), kind="flat"
        )
        self.steps = (
            Step(
                1,
                tr("Computer"),
                tr("Measure"),
                tr("Find the fastest way to run the model on this computer (a few seconds), and remember it"),
            ),
            Step(2, tr("Camera"), tr("Refresh"), tr("Look again for cameras")),
            Step(
                3,
                tr("Virtual camera"),
                tr("Switch on"),
                tr("Let call programs see the output; it starts with the slate"),
            ),
            Step(4, tr("Portrait"), tr("Add yours…"), tr("Pick one on the left, or add a picture of yours")),
            Step(5, tr("Calibrate"), tr("Hands-free"), tr("Calibrate hands-free (F)")),
            Step(6, tr("Go live"), tr("Go live"), tr("Show the avatar to the call (G)")),
        )
        head = QHBoxLayout()
        head.addWidget(label(tr("First steps"), "title"))
        self._count = label("", "muted")
        head.addWidget(self._count)
        head.addStretch(1)
        head.addWidget(self.close_button)
        self._whole = True
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(12, 8, 12, 12)
        self._column.setSpacing(6)
        self._head = head
        self._column.addLayout(head)
        rows = QVBoxLayout()
        rows.setSpacing(_GAP_PX)
        self._column.addLayout(rows)
        for left, right in zip(self.steps[::2], self.steps[1::2], strict=True):
            row = QHBoxLayout()
            row.setSpacing(_GAP_PX)
            row.addWidget(left, 1)
            row.addWidget(right, 1)
            rows.addLayout(row)
        self.close_button.clicked.connect(self.put_away)
        actions: tuple[QPushButton, ...] = tuple(step.action for step in self.steps)
        actions[0].clicked.connect(session.measure)
        actions[1].clicked.connect(session.camera_desk.refresh)
        actions[2].clicked.connect(lambda: session.virtual_camera.switch(True))
        actions[3].clicked.connect(self.portrait_wanted)
        actions[4].clicked.connect(lambda: session.calibrate(now=False))
        actions[5].clicked.connect(session.go_live)
        session.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show how everything stands."""
        session, chain, switch = self._session, self._session.chain, self._session.virtual_camera
        found = switch.report is not None and switch.report.status == "ready"
        virtual = _of(switch.link, can_act=found and not switch.opening and not switch.on_air)
        if switch.report is not None and not switch.on_air:
            virtual = _Standing(False, not found, switch.report.sentence, virtual.can_act)
        portrait = chain.portrait
        if session.portrait is not None and portrait.done and session.portrait.entry.key == session.animated:
            portrait = Link(True, tr("{name}, score {score} of 100", name=portrait.text, score=session.portrait.score))
        missing = chain.missing()
        live = _Standing(
            session.live,
            False,
            tr("live") if session.live else missing or tr("everything is ready"),
            not missing and not session.live,
        )
        standings = (
            _of(chain.model, can_act=chain.model.done and not switch.on_air),
            _of(chain.camera, can_act=session.camera_desk.cameras is not None),
            virtual,
            _of(portrait),
            _of(chain.pose(), can_act=chain.model.done and chain.camera.done),
            live,
        )
        for step, standing in zip(self.steps, standings, strict=True):
            step.show_standing(standing)
        request = calibration_request(in_space=session.in_space)
        set_tip(self.steps[4].action, tr("{request} A second or two is enough (F).", request=request))
        done = sum(step.done for step in self.steps)
        self._count.setText(f"  {tr('{done} of {steps}', done=done, steps=len(self.steps))}")
        self._show_steps()

    def fit(self, width_px: int, height_px: int) -> bool:
        """Show all steps if they fit into that, and otherwise the next one alone; answers whether that is new."""
        margins = self._column.contentsMargins()
        steps = [step.minimumSizeHint() for step in self.steps]
        columns_px = max(step.width() for step in steps) * 2 + _GAP_PX
        rows_px = max(step.height() for step in steps) * 3 + 2 * _GAP_PX
        head_px = self._head.sizeHint().height() + self._column.spacing()
        before = self._whole
        wide_enough = columns_px + margins.left() + margins.right() <= width_px
        self._whole = wide_enough and rows_px + head_px + margins.top() + margins.bottom() <= height_px
        self._show_steps()
        return self._whole != before

    def _show_steps(self) -> None:
        following = next((step for step in self.steps if not step.done), self.steps[-1])
        for step in self.steps:
            step.setVisible(self._whole or step is following)


def _of(link: Link, *, can_act: bool = True) -> _Standing:
    return _Standing(link.done, link.wrong, link.text, can_act)


class ChainRow(QFrame):
    """The checklist's little brother, once that is put away: the links of the chain, a mark and a name each."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(tr("Chain from the camera to the call"))
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        column.setSpacing(4)
        row = FlowLayout(spacing_px=16)
        column.addLayout(row)
        self._parts: list[tuple[QLabel, QLabel]] = []
        for name, _ in Chain().links():
            link = QWidget()
            pair = QHBoxLayout(link)
            pair.setContentsMargins(0, 0, 0, 0)
            pair.setSpacing(5)
            mark, text = QLabel(), label(capital(name), "muted")
            mark.setFixedSize(14, 14)
            pair.addWidget(mark)
            pair.addWidget(text)
            row.addWidget(link)
            self._parts.append((mark, text))
        self._sentence = ElidedLabel()
        self._sentence.setAccessibleName(tr("What is missing, and what to do"))
        column.addWidget(self._sentence)

    @property
    def sentence(self) -> str:
        """What is said to be wrong or missing, and what to do."""
        return self._sentence.text()

    def show_chain(self, chain: Chain) -> None:
        """Show how it stands."""
        theme = theme_in_use()
        for (mark, text), (name, link) in zip(self._parts, chain.links(), strict=True):
            icon_name, colour = ("done", theme.live) if link.done else ("todo", theme.muted)
            if link.wrong:
                icon_name, colour = "warning", theme.warning
            mark.setPixmap(pixmap(icon_name, colour, 14, self.devicePixelRatioF()))
            for widget in (mark, text):
                set_tip(widget, link.text)
            text.setAccessibleName(tr("{name}: {text}", name=name, text=link.text))
        self._sentence.setText(chain.sentence())
