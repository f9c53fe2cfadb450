"""How a person moves in a clip: a pose for every moment, smooth in time, all drawn from a seed."""

from __future__ import annotations

import numpy as np

from .assets import Library
from .rig import Skeleton, about, between, cross, log, pitch, roll, swing, unit, yaw

FRAMINGS = ("head", "half", "full")
_LEGS = ("upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot", "pelvis")
_FINGERS = [(f"finger{f}-{k}", f) for f in range(1, 6) for k in (1, 2, 3)]


class Waves:
    """A few slow sines: a random smooth function of time with values of about `size`."""

    def __init__(self, rng: np.random.Generator, size: float, slow: float = 0.3, fast: float = 1.2):
        self.size = rng.normal(0, size / 1.4, 3)
        self.rate = rng.uniform(slow, fast, 3) * 2 * np.pi
        self.phase = rng.uniform(0, 2 * np.pi, 3)
        self.middle = rng.normal(0, size * 0.5)

    def __call__(self, t: float) -> float:
        return float(self.middle + (self.size * np.sin(self.rate * t + self.phase)).sum())


class Keys:
    """Values held and moved between with minimum jerk; a rise in the middle of each way takes hands around the body."""

    def __init__(self, rng: np.random.Generator, values: list[np.ndarray], span: float, quick: float, lift: np.ndarray):
        self.values, self.lift = values, lift
        self.starts, self.ends = [], []
        t = rng.uniform(-0.5, 0.15) * span
        for _ in values[1:]:
            move = rng.uniform(0.25, 0.6) / quick
            self.starts.append(t)
            self.ends.append(t + move)
            t += move + rng.exponential(0.25) / quick

    def __call__(self, t: float) -> np.ndarray:
        out = self.values[0]
        for i, (a, b) in enumerate(zip(self.starts, self.ends)):
            if t <= a:
                break
            u = min((t - a) / (b - a), 1.0)
            s = u**3 * (10 - 15 * u + 6 * u * u)
            way = self.values[i + 1] - self.values[i]
            out = self.values[i] + way * s + self.lift * np.sin(np.pi * s) * min(1.0, float(np.linalg.norm(way)))
        return out


# Places of a hand, in arm lengths from the shoulder: outwards, up, forward.
_PLACES = {
    "down": (0.16, -0.94, 0.08),
    "hip": (0.22, -0.62, 0.12),
    "belly": (-0.25, -0.5, 0.4),
    "front": (0.05, -0.25, 0.62),
    "chest": (-0.22, -0.18, 0.42),
    "beside": (0.55, -0.35, 0.35),
    "wide": (0.9, -0.1, 0.2),
    "wave": (0.42, 0.32, 0.3),
    "reach": (0.05, -0.02, 0.96),
    "up": (0.2, 0.92, 0.12),
    "head": (0.12, 0.42, 0.22),
    "face": (-0.22, 0.12, 0.4),
    "across": (-0.55, -0.12, 0.6),
    "point": (0.45, 0.08, 0.85),
    "high": (0.6, 0.7, 0.15),
    "back": (0.25, -0.85, -0.3),
}
_GESTURES = ["front", "chest", "beside", "belly", "face", "across", "point", "wave"]
_LARGE = ["reach", "up", "high", "wide", "wave", "head", "across", "point", "beside"]


def _place(rng: np.random.Generator, name: str) -> np.ndarray:
    return np.array(_PLACES[name]) + rng.normal(0, 0.07, 3)


class Act:
    """A clip's motion. `pose(t)` gives skinning matrices and joint positions at `t` seconds."""

    def __init__(
        self,
        library: Library,
        skeleton: Skeleton,
        rng: np.random.Generator,
        framing: str,
        span: float,
        holding: str = "",
    ):
        self.skeleton, self.library, self.span = skeleton, library, span
        self.framing = framing
        lively = float(np.exp(rng.uniform(-0.9, 0.5)))
        self.lively = lively
        kinds = {
            "head": (["talk", "gesture", "large", "turn"], [0.4, 0.38, 0.12, 0.1]),
            "half": (["talk", "gesture", "large", "turn", "walk", "pose"], [0.12, 0.38, 0.25, 0.12, 0.06, 0.07]),
            "full": (["gesture", "large", "turn", "walk", "pose", "recorded"], [0.18, 0.22, 0.12, 0.26, 0.14, 0.08]),
        }
        names, shares = kinds[framing]
        self.kind = str(rng.choice(names, p=shares))
        w = Waves
        self.lean, self.twist, self.bow = w(rng, 0.05 * lively), w(rng, 0.09 * lively), w(rng, 0.05 * lively)
        self.nod, self.shake, self.tilt = w(rng, 0.11 * lively), w(rng, 0.2 * lively), w(rng, 0.08 * lively)
        self.jaw = w(rng, 0.05, 1.5, 4.0) if rng.random() < 0.7 else w(rng, 0.005)
        self.sway = [w(rng, 0.12 * lively), w(rng, 0.04 * lively), w(rng, 0.08 * lively)]
        self.gaze = [w(rng, 0.12), w(rng, 0.06)]
        wide = {"head": 0.35, "half": 0.45, "full": 0.6}[framing]
        self.facing = rng.normal(0, wide)
        if rng.random() < 0.12:
            self.facing = rng.uniform(-np.pi, np.pi)
        self.turn = 0.0
        if self.kind == "turn":
            self.turn = rng.choice([-1, 1]) * rng.uniform(0.6, 3.4) * (0.5 if framing == "head" else 1)
            self.facing -= self.turn * rng.uniform(0.2, 0.8)
        self.head_turn = rng.choice([0, 0, 1]) * rng.uniform(-0.7, 0.7)
        self.head_time = rng.uniform(0.1, 0.6) * span

        quick = {"talk": 0.8, "gesture": 1.2, "large": 1.5}.get(self.kind, 1.0) * lively**0.5
        self.hands = {}
        for side in "LR":
            lift = np.array([0.1, 0.0, 0.22])
            values = self._hand_path(rng)
            self.hands[side] = Keys(rng, values, span, quick, lift)
        self.tremble = {side: [w(rng, 0.03 * lively, 0.6, 2.5) for _ in range(3)] for side in "LR"}
        self.palm = {side: w(rng, 0.6) for side in "LR"}
        self.curl = {
            side: [rng.uniform(0.0, 0.55) if rng.random() < 0.75 else rng.uniform(0.8, 1.3) for _ in range(5)]
            for side in "LR"
        }
        if rng.random() < 0.15:  # pointing
            side = "LR"[rng.integers(2)]
            self.curl[side] = [0.6, 0.05, 1.2, 1.25, 1.3]
        if holding:
            self.curl[holding] = [0.5, 0.65, 0.65, 0.65, 0.65]
            if self.kind == "talk":
                self.hands[holding] = Keys(
                    rng, [_place(rng, "chest"), _place(rng, str(rng.choice(["face", "front"])))], span, quick, lift
                )
        self.flex = {side: w(rng, 0.15, 0.5, 2) for side in "LR"}
        self.elbow = {side: rng.uniform(0.1, 0.9) for side in "LR"}
        self.gait = rng.uniform(0.8, 1.3)
        self.step = rng.uniform(0.35, 0.6)
        self.phase = rng.uniform(0, 2 * np.pi)
        self.speed = rng.choice([0.0, 1.0]) * rng.uniform(5, 11) if self.kind == "walk" else 0.0
        self.stance = rng.uniform(-0.05, 0.13)
        self.weight = w(rng, 0.06 * lively)
        self.poses = []
        if self.kind == "pose":
            names = sorted(str(p.relative_to(library.root)) for p in (library.root / "assets/poses").glob("*.bvh"))
            names = [n for n in names if "fly" not in n and "gym" not in n]
            picks = [names[rng.integers(len(names))] for _ in range(2)]
            self.poses = [self._recorded(p, 0) for p in picks]
            self.change = (rng.uniform(-0.3, 0.2) * span, rng.uniform(0.8, 1.6) * span)
        self.recording = "animations/zombie/zombieWalk1.bvh" if rng.random() < 0.35 else "animations/walks/walk1.bvh"
        self.at = rng.uniform(0, 1)

    def _hand_path(self, rng: np.random.Generator) -> list[np.ndarray]:
        if self.kind == "talk":
            names = ["down" if rng.random() < 0.6 else "belly"] * 2
        elif self.kind == "gesture":
            names = [str(rng.choice(_GESTURES + ["down"])) for _ in range(4)] if rng.random() < 0.8 else ["down"] * 2
        elif self.kind == "large":
            names = [str(rng.choice(_LARGE)) for _ in range(4)] if rng.random() < 0.8 else ["down", "hip"]
        elif self.kind == "turn":
            names = [str(rng.choice(["down", "hip", "belly", "wide", "front", "back"])) for _ in range(2)]
        else:
            names = ["down"] * 2
        return [_place(rng, n) for n in names]

    def _recorded(self, path: str, frame: int) -> dict[str, np.ndarray]:
        motion, s = self.library.motion(path), self.skeleton
        if motion.bones[0] in s.index:
            return {n: motion.rotations[frame, i] for i, n in enumerate(motion.bones) if n in s.index}
        # Another rig, at rest with its arms stretched out: what a limb's direction was there becomes its direction here.
        turned: list[np.ndarray] = []
        for own, parent in zip(motion.rotations[frame], motion.parents):
            turned.append(own if parent < 0 else turned[parent] @ own)
        wanted = {}
        for i, name in enumerate(motion.bones):
            for end in (".L", ".R"):
                plain = name.replace("_" + end[1], "")
                if plain not in _FOREIGN or (name == plain) != (plain in _MIDDLE):
                    continue
                if name != plain and not name.endswith("_" + end[1]):
                    continue
                bone, following = _FOREIGN[plain]
                if plain in _MIDDLE:
                    wanted[bone] = turned[i]
                    continue
                bone += end
                if not following:
                    wanted[bone] = turned[i]
                    continue
                child = motion.bones.index(following + "_" + end[1])
                here = s.head(_FOREIGN[following][0] + end) - s.head(bone)
                wanted[bone] = turned[i] @ swing(unit(here), unit(motion.offsets[child]))
        wanted = {n: wanted[n] for n in s.names if n in wanted}
        out: dict[str, np.ndarray] = {}
        world: list[np.ndarray] = []
        for name, parent in zip(s.names, s.parents):
            above = np.eye(3) if parent < 0 else world[parent]
            world.append(wanted.get(name, above))
            if name in wanted:
                out[name] = above.T @ wanted[name]
        return out

    def pose(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        s = self.skeleton
        turns: dict[str, np.ndarray] = {}
        shift = np.array([f(t) for f in self.sway])
        swings = {"L": 0.0, "R": 0.0}
        base: dict[str, np.ndarray] = {}
        if self.kind == "pose":
            a, b = self.change
            u = np.clip((t - a) / (b - a), 0, 1)
            u = u * u * (3 - 2 * u)
            first, second = self.poses
            base = {n: between(first.get(n, np.eye(3)), second.get(n, np.eye(3)), u) for n in {*first, *second}}
        elif self.kind == "recorded":
            motion = self.library.motion(self.recording)
            count = len(motion.rotations)
            place = ((t / motion.seconds) * self.gait + self.at * count) % count
            i = int(place)
            first, second = self._recorded(self.recording, i), self._recorded(self.recording, (i + 1) % count)
            base = {n: between(first[n], second[n], place - i) for n in first}
        elif self.kind == "walk":
            shift = shift + self._walk(t, turns, swings)
        else:
            self._stand(t, turns)

        for name, turn in base.items():
            turns[name] = turn
        lean = roll(self.lean(t)) @ yaw(self.twist(t)) @ pitch(self.bow(t) + 0.02)
        for bone in ("spine05", "spine04", "spine03", "spine02", "spine01"):
            turns[bone] = turns.get(bone, np.eye(3)) @ _part5(lean)
        head_turn = self.head_turn * _ease((t - self.head_time) / 0.4)
        head = yaw(self.shake(t) + head_turn) @ pitch(self.nod(t)) @ roll(self.tilt(t))
        for bone in ("neck01", "neck02", "neck03", "head"):
            share = 0.4 if bone == "head" else 0.2
            turns[bone] = turns.get(bone, np.eye(3)) @ about(*_axis_angle(head, share))
        turns["jaw"] = pitch(max(0.0, self.jaw(t)) + 0.01)
        for side in "LR":
            turns[f"eye.{side}"] = yaw(float(np.clip(self.gaze[0](t), -0.4, 0.4))) @ pitch(
                float(np.clip(self.gaze[1](t), -0.2, 0.2))
            )
        facing = self.facing + self.turn * _ease(t / self.span * 1.1 - 0.05)
        turns["root"] = yaw(facing) @ turns.get("root", np.eye(3))
        if self.speed:
            shift = shift + yaw(facing) @ np.array([0, 0, self.speed * (t - self.span / 2)])

        if base:
            rotations, positions = s.forward(turns, shift)
        else:
            for side, sign in (("L", 1.0), ("R", -1.0)):
                place = self.hands[side](t) + [f(t) for f in self.tremble[side]]
                place = place + [0, 0, swings[side]]
                raised = float(np.clip((place[1] + 0.1) / 0.9, 0, 1))
                turns[f"clavicle.{side}"] = roll(sign * 0.32 * raised) @ yaw(-sign * 0.12 * max(0.0, place[2] - 0.4))
                turns[f"shoulder01.{side}"] = roll(sign * 0.2 * raised)
            rotations, positions = s.forward(turns, shift)
            chest = rotations[s.index["spine01"]]
            for side, sign in (("L", 1.0), ("R", -1.0)):
                place = self.hands[side](t) + [f(t) for f in self.tremble[side]] + [0, 0, swings[side]]
                shoulder, elbow, wrist = (s.head(f"{n}.{side}") for n in ("upperarm01", "lowerarm01", "wrist"))
                arm = np.linalg.norm(elbow - shoulder) + np.linalg.norm(wrist - elbow)
                target = positions[s.index[f"upperarm01.{side}"]] + chest @ (place * [sign, 1, 1]) * arm
                raised = float(np.clip((place[1] + 0.3) / 0.9, 0, 1))
                pole = np.array(
                    [sign * (0.25 + 0.7 * raised + 0.3 * self.elbow[side]), -0.8 * (1 - 0.5 * raised), -0.45]
                )
                s.reach(turns, rotations, positions, side, target, chest @ unit(pole), sign * self.palm[side](t))
                self._fingers(turns, side, t)
            rotations, positions = s.forward(turns, shift)
        return s.matrices(rotations, positions), positions

    def _fingers(self, turns: dict[str, np.ndarray], side: str, t: float) -> None:
        s = self.skeleton
        across = s.head(f"finger5-1.{side}") - s.head(f"finger2-1.{side}")
        along = s.head(f"finger3-1.{side}") - s.head(f"wrist.{side}")
        palm = unit(cross(across, along)) * (1 if side == "L" else -1)  # out of the palm
        for name, finger in _FINGERS:
            bone = f"{name}.{side}"
            d = unit(s.tails[s.index[bone]] - s.heads[s.index[bone]])
            angle = np.clip(self.curl[side][finger - 1] + self.flex[side](t) * (0.5 + 0.1 * finger), -0.1, 1.35)
            if finger == 1:
                angle *= 0.35
            turns[bone] = about(cross(d, palm), angle)

    def _stand(self, t: float, turns: dict[str, np.ndarray]) -> None:
        w = self.weight(t)
        for side, sign in (("L", 1.0), ("R", -1.0)):
            bend = max(0.0, 0.04 + sign * w)
            turns[f"upperleg01.{side}"] = pitch(-bend) @ roll(-sign * self.stance)
            turns[f"lowerleg01.{side}"] = pitch(2 * bend)
            turns[f"foot.{side}"] = pitch(-bend) @ roll(sign * self.stance)

    def _walk(self, t: float, turns: dict[str, np.ndarray], swings: dict[str, float]) -> np.ndarray:
        angle = self.phase + 2 * np.pi * self.gait * t
        for side, offset in (("L", 0.0), ("R", np.pi)):
            a = angle + offset
            thigh = self.step * np.sin(a)
            knee = 0.1 + 0.75 * self.step / 0.5 * max(0.0, np.cos(a + 0.35)) ** 1.5
            turns[f"upperleg01.{side}"] = pitch(-thigh - knee * 0.3)
            turns[f"lowerleg01.{side}"] = pitch(knee)
            turns[f"foot.{side}"] = pitch(-0.35 * knee + 0.25 * max(0.0, -np.sin(a)))
            swings[side] = -0.55 * self.step * np.sin(a)
        turns["spine05"] = yaw(0.12 * np.sin(angle))
        return np.array([0, 0.18 * self.step * np.cos(2 * angle), 0])


def _ease(u: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return u**3 * (10 - 15 * u + 6 * u * u)


def _axis_angle(rotation: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    v = log(rotation)
    angle = float(np.linalg.norm(v))
    return (v if angle > 1e-9 else np.array([0, 1.0, 0])), angle * share


def _part5(rotation: np.ndarray) -> np.ndarray:
    return about(*_axis_angle(rotation, 0.2))


# Joints of the walks' simpler rig: the bone here, and the joint at the end of the limb.
_MIDDLE = ("Root", "Spine1", "Spine2", "Spine3", "Neck", "Head")
_FOREIGN = {
    "Root": ("root", ""), "Spine1": ("spine05", ""), "Spine2": ("spine03", ""), "Spine3": ("spine01", ""),
    "Neck": ("neck01", ""), "Head": ("head", ""), "Clavicle": ("clavicle", ""), "UpArm": ("upperarm01", "LoArm"),
    "LoArm": ("lowerarm01", "Hand"), "Hand": ("wrist", ""), "UpLeg": ("upperleg01", "LoLeg"),
    "LoLeg": ("lowerleg01", "Foot"), "Foot": ("foot", ""),
}  # fmt: skip
