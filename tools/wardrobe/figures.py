"""A person or mannequin in front of the camera: measures, pose, and projection to the photo.

Body coordinates are cm: x to the viewer's right when the person faces the camera, y down from
the crown, z toward the camera. ``side`` is -1 for the limbs at negative x (on the left of a front
view) and +1 for the others; it stays with the body when the person turns around.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tools.wardrobe.shapes import curve

# Height from the crown, half width and half depth of the trunk, all as shares of the stature.
TRUNK_FEMININE = np.array([
    (0.125, 0.026, 0.029), (0.150, 0.029, 0.032), (0.168, 0.038, 0.036), (0.184, 0.070, 0.040),
    (0.200, 0.100, 0.046),
    (0.230, 0.100, 0.058), (0.262, 0.093, 0.066), (0.300, 0.090, 0.073), (0.345, 0.081, 0.060),
    (0.385, 0.075, 0.056), (0.430, 0.086, 0.062), (0.485, 0.102, 0.070), (0.520, 0.103, 0.068),
    (0.560, 0.098, 0.064),
])  # fmt: skip
TRUNK_MASCULINE = np.array([
    (0.125, 0.031, 0.033), (0.150, 0.034, 0.036), (0.168, 0.045, 0.040), (0.185, 0.082, 0.044),
    (0.201, 0.114, 0.050),
    (0.230, 0.113, 0.060), (0.262, 0.105, 0.066), (0.300, 0.100, 0.068), (0.345, 0.094, 0.064),
    (0.385, 0.090, 0.064), (0.430, 0.092, 0.066), (0.485, 0.098, 0.068), (0.520, 0.098, 0.066),
    (0.560, 0.094, 0.062),
])  # fmt: skip

# Directions (outward, down, forward) of upper arm and forearm.
ARM_POSES = {
    "down": ((0.13, 0.99, 0.0), (0.08, 0.98, 0.14)),
    "out": ((0.48, 0.87, 0.0), (0.42, 0.9, 0.16)),
    "wide": ((0.8, 0.6, 0.0), (0.75, 0.62, 0.1)),
    "hip": ((0.56, 0.8, -0.12), (-0.6, 0.74, 0.28)),
    "pocket": ((0.34, 0.93, -0.05), (-0.16, 0.95, 0.22)),
    "front": ((0.14, 0.96, 0.16), (-0.55, 0.32, 0.76)),
    "across": ((0.16, 0.95, 0.2), (-0.9, -0.02, 0.42)),
    "phone": ((0.3, 0.82, 0.48), (-0.42, -0.84, 0.36)),
    "raised": ((0.34, 0.86, 0.36), (0.12, -0.94, 0.3)),
    "behind": ((0.26, 0.95, -0.2), (-0.45, 0.8, -0.4)),
    "flat": ((0.62, 0.78, 0.0), (0.55, 0.83, 0.0)),
    "hang": ((0.22, 0.97, 0.0), (0.12, 0.99, 0.0)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera stands. scale: px per cm at the body; (x, y): px of the point
    ``height`` cm below the crown; pitch (looking down > 0), roll, in radians; distance in cm."""

    scale: float
    x: float
    y: float
    height: float
    pitch: float = 0.0
    roll: float = 0.0
    distance: float = 420.0


@dataclass
class Figure:
    """Measures and pose of one person. ``yaw`` in radians: 0 faces the camera, pi turns away."""

    camera: Camera
    stature: float = 170.0
    masculine: float = 0.0  # 0..1 between the two trunk tables
    build: float = 1.0  # width of trunk and limbs
    yaw: float = 0.0
    arms: dict[int, str] = field(default_factory=lambda: {-1: "down", 1: "down"})
    arm_sway: dict[int, tuple] = field(default_factory=lambda: {-1: (0, 0, 0), 1: (0, 0, 0)})
    feet: tuple[float, float] = (-9.0, 9.0)  # cm sideways of the ankles at x < 0 and x > 0
    knees: tuple[float, float] = (0.0, 0.0)  # cm the knees leave the straight leg, outward
    hip_shift: float = 0.0  # cm
    shoulder_tilt: float = 0.0  # radians
    hip_tilt: float = 0.0
    flatness: float = 0.0  # 1: cloth without a body, lying flat

    @cached_property
    def _trunk(self) -> np.ndarray:
        table = TRUNK_FEMININE + (TRUNK_MASCULINE - TRUNK_FEMININE) * self.masculine
        fine = curve(table, 160) * self.stature
        fine[:, 1:] *= self.build
        # A garment lying flat shows half its circumference: wider than it looks when worn.
        fine[:, 1] *= 1 + 0.22 * self.flatness
        fine[:, 2] *= 1 - 0.97 * self.flatness
        return fine

    @property
    def facing(self) -> int:
        """1 when the camera sees the front of the body, -1 when it sees the back."""
        return 1 if np.cos(self.yaw) >= 0 else -1

    def y(self, share: float) -> float:
        """cm below the crown of a height given as a share of the stature."""
        return share * self.stature

    def width(self, y: np.ndarray | float) -> np.ndarray:
        """Half width of the trunk in cm at y cm."""
        return np.interp(y, self._trunk[:, 0], self._trunk[:, 1])

    def depth(self, y: np.ndarray | float) -> np.ndarray:
        """Half depth of the trunk in cm at y cm."""
        return np.interp(y, self._trunk[:, 0], self._trunk[:, 2])

    def silhouette(self, half: np.ndarray, deep: np.ndarray) -> np.ndarray:
        """Half width in cm, as the turned camera sees it, of rings half wide and deep."""
        return np.hypot(half * np.cos(self.yaw), deep * np.sin(self.yaw))

    def edge(self, s: float | np.ndarray, y: np.ndarray, half: np.ndarray, deep: np.ndarray):
        """Photo position f64[..., 2] on rings around the trunk, s=-1 left .. 1 right as seen."""
        wide = self.silhouette(half, deep)
        seen = np.hypot(half * np.sin(self.yaw), deep * np.cos(self.yaw))
        return self._place(s * wide, y, seen * np.sqrt(np.maximum(1 - np.square(s), 0)))

    def front(self, x: np.ndarray, y: np.ndarray, half: np.ndarray, deep: np.ndarray):
        """Photo position of points x cm sideways on the front of rings around the trunk.

        Points hidden by the turned body are projected as if it were transparent.
        """
        angle = np.arcsin(np.clip(np.asarray(x) / half, -1, 1))
        return self._on_ring(angle, y, half, deep)

    def back(self, x: np.ndarray, y: np.ndarray, half: np.ndarray, deep: np.ndarray):
        """As ``front``, on the back."""
        angle = np.pi - np.arcsin(np.clip(np.asarray(x) / half, -1, 1))
        return self._on_ring(angle, y, half, deep)

    def _on_ring(self, angle: np.ndarray, y: np.ndarray, half: np.ndarray, deep: np.ndarray):
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, z = half * np.sin(angle), deep * np.cos(angle)
        return self._place(x * c + z * s, y, z * c - x * s)

    def _place(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Turned coordinates relative to the trunk's axis -> photo, with the pose's sway."""
        share = np.asarray(y, np.float64) / self.stature
        t = np.clip((share - 0.2) / 0.3, 0, 1)
        bend = t * t * (3 - 2 * t)
        tilt = (self.shoulder_tilt + (self.hip_tilt - self.shoulder_tilt) * bend) * np.cos(self.yaw)
        shift = self.hip_shift * bend * np.cos(self.yaw)
        x = np.asarray(x, np.float64)
        return self._shoot(x * np.cos(tilt) + shift, np.asarray(y) + x * np.sin(tilt), z)

    def project(self, point: np.ndarray | tuple) -> np.ndarray:
        """Body coordinates f64[..., 3] -> photo f64[..., 2]."""
        p = np.asarray(point, np.float64)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, z = p[..., 0] * c + p[..., 2] * s, p[..., 2] * c - p[..., 0] * s
        return self._shoot(x, p[..., 1], z)

    def _shoot(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        camera = self.camera
        down = np.asarray(y, np.float64) - camera.height
        c, s = np.cos(camera.pitch), np.sin(camera.pitch)
        down, z = down * c + z * s, z * c - down * s
        scale = camera.scale * camera.distance / (camera.distance - z)
        u, v = x * scale, down * scale
        c, s = np.cos(camera.roll), np.sin(camera.roll)
        photo = np.empty((*np.broadcast_shapes(u.shape, v.shape), 2))
        photo[..., 0] = camera.x + c * u - s * v
        photo[..., 1] = camera.y + s * u + c * v
        return photo

    def shoulder(self, side: int) -> np.ndarray:
        """Body coordinates of the shoulder joint."""
        y = self.y(0.226)
        half = self.width(self.y(0.205)) - 0.025 * self.stature
        return np.array([side * half, y + side * half * np.sin(self.shoulder_tilt), 0.0])

    def arm(self, side: int) -> np.ndarray:
        """Body coordinates f64[4, 3] of shoulder, elbow, wrist, finger tips."""
        directions = np.array(ARM_POSES[self.arms[side]]) + np.array(self.arm_sway[side])
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        directions[:, 0] *= side
        if self.arms[side] == "hip":  # The hand rests on the hip, pointing inward.
            last = directions[1] * (1, 0.6, 1)
        else:
            last = directions[1]
        steps = np.array([directions[0] * 0.170, directions[1] * 0.150, last * 0.10])
        shoulder = self.shoulder(side)
        return np.concatenate([[shoulder], shoulder + np.cumsum(steps * self.stature, axis=0)])

    def arm_in_front(self, side: int) -> bool:
        """True when the forearm lies between the trunk and the camera."""
        pose = self.arms[side]
        if pose == "behind":
            return self.facing < 0
        return self.facing > 0 and pose in ("front", "across", "phone", "raised", "pocket", "hip")

    def leg(self, side: int) -> np.ndarray:
        """Body coordinates f64[3, 3] of hip joint, knee, ankle."""
        i = (side + 1) // 2
        half = 0.053 * self.stature * self.build
        hip = np.array([side * half + self.hip_shift, self.y(0.50), 0.0])
        hip[1] += side * half * np.sin(self.hip_tilt)
        ankle = np.array([self.feet[i], self.y(0.945), 0.0])
        knee = hip + (ankle - hip) * 0.51
        knee[0] += side * self.knees[i]
        knee[2] += abs(self.knees[i]) * 1.2
        return np.stack([hip, knee, ankle])
