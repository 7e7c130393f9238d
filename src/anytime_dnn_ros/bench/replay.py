"""A recorded run, decided anew by any policy: no machine, no clock, the same every time.

It follows `Runner`: the newest-frame slot, the mandatory first stage, the timer with the lateness
that was recorded, the cut of a running stage, and the forecast where no stage is done in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isnan, nan

import numpy as np

from anytime_dnn_ros.bench.outcome import REPLACED, FrameOutcome, Pass, Published
from anytime_dnn_ros.bench.policies import ORACLE, STATIC, Static, make_policy
from anytime_dnn_ros.bench.trace import FrameTrace, Recording
from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.planner import Goals, Policy, Situation, StopReason
from anytime_dnn_ros.quality.forecast import Forecaster
from anytime_dnn_ros.quality.judge import Judgement


def replay(recording: Recording, deadline_ms: float, name: str, goals: Goals) -> Pass:
    """Plays a run.

    Args:
        recording: The run.
        deadline_ms: From a frame's arrival to its answer.
        name: Of the policy; one of `policy_names`.
        goals: What the user asks for.

    Raises:
        ConfigurationError: There is no such policy.
    """
    policy = None if name == ORACLE else make_policy(name, recording.ladder, goals)
    replayed = _Replay(recording, deadline_ms / 1e3, policy, name)
    replayed.run()
    return Pass(
        load=recording.load,
        deadline_ms=deadline_ms,
        policy=name,
        frames=tuple(replayed.outcomes),
        onset_s=recording.onset_s,
        loaded_s=recording.loaded_s,
        decisions=tuple(replayed.decisions),
    )


def publishes_intermediate(name: str) -> bool:
    """Whether a policy's answers before the final one go out: a plain network has none."""
    return not name.startswith(STATIC) and name != ORACLE


@dataclass
class _Replay:
    """The state of a run; times in seconds on the recording's clock."""

    recording: Recording
    deadline_s: float
    policy: Policy | None
    name: str
    outcomes: list[FrameOutcome] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Serves every frame that has its turn."""
        frames = self.recording.frames
        self._forecaster = Forecaster()
        self._loads = iter([*self.recording.loads, (inf, None)])
        self._next_load = next(self._loads)
        free_s, index = -inf, 0
        while index < len(frames):
            start_s = max(free_s, frames[index].arrival_s)
            # The slot holds only the newest frame.
            while index + 1 < len(frames) and frames[index + 1].arrival_s <= start_s:
                self.outcomes.append(self._outcome(frames[index], dropped=REPLACED))
                index += 1
            free_s = self._serve(index, start_s)
            index += 1

    def _outcome(self, frame: FrameTrace, **what: object) -> FrameOutcome:
        due_s = frame.arrival_s + self.deadline_s
        return FrameOutcome(frame.arrival_s, due_s, frame.label, **what)  # type: ignore[arg-type]

    def _serve(self, index: int, start_s: float) -> float:
        """Plays one frame; gives the moment when the worker is free again."""
        frame = self.recording.frames[index]
        due_s = frame.arrival_s + self.deadline_s
        policy = self.policy or Static(_clairvoyant_stages(frame, start_s, due_s))
        self._hear(policy, start_s)
        self._plan(policy, index, start_s, 0, None)
        armed_s, now_s = start_s, start_s + frame.fit_s
        judgement: Judgement | None = None
        published: list[Published] = []
        cut_to_result_s = nan
        for stage, took_s in enumerate(frame.stage_s):
            end_s = now_s + took_s
            instant_s = due_s - policy.lead_s()
            if judgement is None and not self._forecaster.has_answer:
                instant_s = inf
            # An instant that was past when it was set: the timer wakes at once.
            instant_s = max(instant_s, armed_s)
            wakes_s = instant_s + frame.timer_late_s
            if wakes_s < end_s:
                out_s = wakes_s + frame.publish_s
                cut_to_result_s = out_s - instant_s
                forecast = judgement is None
                final = judgement or self._forecaster.forecast(frame.arrival_s, len(frame.stage_s))
                assert final is not None
                published.append(_published(out_s, final))
                self._finish(policy, frame, final, out_s, forecast=forecast)
                policy.observe_publish(cut_to_result_s, by_timer=True)
                reason = StopReason.FORECAST if forecast else StopReason.DEADLINE
                self.decisions.append(f'{index}/{stage}:timer {reason.name}')
                now_s = self._leave(policy, frame, stage, now_s, out_s, forecast=forecast)
                break
            policy.observe_stage(stage, took_s, finished=True)
            judgement = _judgement(frame, stage, self.recording.num_classes)
            self._hear(policy, end_s)
            now_s = end_s + frame.publish_s
            if self._plan(policy, index, end_s, stage + 1, judgement):
                published.append(_published(now_s, judgement))
                self._finish(policy, frame, judgement, now_s, forecast=False)
                policy.observe_publish(frame.publish_s, by_timer=False)
                break
            if publishes_intermediate(self.name):
                published.append(_published(now_s, judgement))
                policy.observe_publish(frame.publish_s, by_timer=False)
            else:
                now_s = end_s
            armed_s = now_s
        self.outcomes.append(
            self._outcome(
                frame,
                published=tuple(published),
                answered=True,
                cut_to_result_s=cut_to_result_s,
            )
        )
        return now_s

    def _plan(
        self, policy: Policy, index: int, now_s: float, stage: int, judgement: Judgement | None
    ) -> bool:
        """Asks the policy; True if it stops here."""
        frames = self.recording.frames
        situation = Situation(
            stage=stage,
            num_stages=len(frames[index].stage_s),
            time_left_s=frames[index].arrival_s + self.deadline_s - now_s,
            judgement=judgement,
            newer_waits=index + 1 < len(frames) and frames[index + 1].arrival_s <= now_s,
        )
        reason = policy.plan(situation)
        self.decisions.append(f'{index}/{stage}:{reason.name}')
        return reason is not StopReason.NONE

    def _hear(self, policy: Policy, now_s: float) -> None:
        """Hands on what the monitor has said by now."""
        while self._next_load[0] <= now_s:
            policy.observe_load(self._next_load[1])
            self._next_load = next(self._loads)

    def _finish(
        self, policy: Policy, frame: FrameTrace, final: Judgement, out_s: float, *, forecast: bool
    ) -> None:
        missed = forecast or out_s > frame.arrival_s + self.deadline_s
        policy.observe_frame(missed=missed, expected_accuracy=final.expected_accuracy)
        if not forecast:
            self._forecaster.observe(final, frame.arrival_s)

    def _leave(
        self,
        policy: Policy,
        frame: FrameTrace,
        stage: int,
        begun_s: float,
        out_s: float,
        *,
        forecast: bool,
    ) -> float:
        """The worker's way out of a frame that the timer has ended; gives when it is free."""
        end_s = begun_s + frame.stage_s[stage]
        if forecast:
            # The first stage goes on: the next forecast comes from it.
            policy.observe_stage(stage, frame.stage_s[stage], finished=True)
            first = _judgement(frame, stage, self.recording.num_classes)
            self._forecaster.observe(first, frame.arrival_s)
            return end_s
        if out_s <= begun_s:
            return out_s
        is_cut = self.recording.ladder.can_cut and out_s < end_s
        left_s = out_s if is_cut else end_s
        policy.observe_stage(stage, left_s - begun_s, finished=not is_cut)
        return left_s


def _clairvoyant_stages(frame: FrameTrace, start_s: float, due_s: float) -> int:
    """The stages of the best declared answer that is out in time; of equals the deepest.

    Where nothing is declared, the deepest is taken for the best.
    """
    best, best_accuracy = 1, -inf
    now_s = start_s + frame.fit_s
    for stage, took_s in enumerate(frame.stage_s):
        now_s += took_s
        accuracy = frame.judged[stage].expected_accuracy
        if now_s + frame.publish_s > due_s:
            break
        if isnan(accuracy) or accuracy >= best_accuracy:
            best, best_accuracy = stage + 1, accuracy
    return best


def _published(at_s: float, judgement: Judgement) -> Published:
    answer = judgement.answer
    named = int(answer.probabilities.argmax())
    return Published(at_s, answer.stage, named, judgement.expected_accuracy)


def _judgement(frame: FrameTrace, stage: int, num_classes: int) -> Judgement:
    judged = frame.judged[stage]
    return Judgement(
        answer=_answer(stage, judged.named, judged.confidence, num_classes),
        newest=_answer(stage, judged.newest_named, judged.newest_confidence, num_classes),
        expected_accuracy=judged.expected_accuracy,
        expected_later=judged.expected_later,
    )


def _answer(stage: int, named: int, confidence: float, num_classes: int) -> Answer:
    """An answer of that class and confidence; what is left is spread over the other classes."""
    left = (1 - confidence) / max(1, num_classes - 1)
    # The named class stays the most likely one, also where 1 / num_classes is all it has.
    probabilities = np.full(num_classes, min(left, confidence), np.float32)
    probabilities[named] = np.nextafter(np.float32(confidence), np.float32(2))
    return Answer(stage + 1, probabilities, confidence)
