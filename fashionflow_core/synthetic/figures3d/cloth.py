"""Cloth simulation (XPBD).

Extended position-based dynamics with small steps (XPBD; Macklin et al. 2019), on warp.
It runs on one CPU core in a fixed order, so that results are reproducible.
"""
# pyright: reportMissingImports=false, reportInvalidTypeForm=false, reportAttributeAccessIssue=false
# Warp's stubs lack the operators of its vectors.
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false

import numpy as np
import warp as wp

STEPS = 8  # per frame
_TOUCH = 2  # steps between searches for contacts
_FRICTION_SHARE = wp.constant(0.5)  # share of a vertex's slide along the body lost at each contact
_COMPLIANCE = {"edge": 0.0, "shear": 2e-5, "bend": 4e-4}  # metres per newton, for vertices of unit mass


class Grid:
    """A piece of cloth: a grid of vertices with springs.

    Args:
        rest: positions at rest, float64 (rows, columns, 3).
        closed: whether the last column is sewn to the first.
    """

    def __init__(self, rest: np.ndarray, closed: bool) -> None:
        rows, columns, _ = rest.shape
        at = np.arange(rows * columns).reshape(rows, columns)
        flat = rest.reshape(-1, 3)
        pairs, lengths, kinds = [], [], []

        def add(first: np.ndarray, second: np.ndarray, kind: str) -> None:
            a, b = first.ravel(), second.ravel()
            pairs.append(np.stack([a, b], 1))
            lengths.append(np.linalg.norm(flat[a] - flat[b], axis=1))
            kinds.append(np.full(len(a), _COMPLIANCE[kind]))

        def right(rows_of: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
            return (rows_of, np.roll(rows_of, -step, 1)) if closed else (rows_of[:, :-step], rows_of[:, step:])

        for row in range(rows):  # from the top down: hanging rows depend on those above
            here = at[row : row + 1]
            add(*right(here, 1), "edge")
            if row + 1 < rows:
                below = at[row + 1 : row + 2]
                add(here, below, "edge")
                first, _ = right(here, 1)
                _, second = right(below, 1)
                add(first, second, "shear")
                first, _ = right(below, 1)
                _, second = right(here, 1)
                add(first, second, "shear")
            if row + 2 < rows:
                add(here, at[row + 2 : row + 3], "bend")
            add(*right(here, 2), "bend")
        # Limit of the distance of a vertex from its column's first row: long-range attachments prevent stretching of
        # hanging cloth (Kim, Chentanez and Mueller-Fischer 2012), which needs many more steps otherwise.
        step = np.linalg.norm(np.diff(rest, axis=0), axis=-1)
        self.reach = np.concatenate([np.zeros((1, columns)), np.cumsum(step, 0)]).ravel().astype(np.float32)
        self.rows, self.columns = rows, columns
        self.pairs = np.concatenate(pairs).astype(np.int32)
        self.lengths = np.concatenate(lengths).astype(np.float32)
        self.compliance = np.concatenate(kinds).astype(np.float32)


@wp.kernel
def _between(a: wp.array(dtype=wp.vec3), b: wp.array(dtype=wp.vec3), share: float, out: wp.array(dtype=wp.vec3)):
    i = wp.tid()
    out[i] = a[i] * (1.0 - share) + b[i] * share


@wp.kernel
def _advance(
    x: wp.array(dtype=wp.vec3),
    before: wp.array(dtype=wp.vec3),
    v: wp.array(dtype=wp.vec3),
    pins_a: wp.array(dtype=wp.vec3),
    pins_b: wp.array(dtype=wp.vec3),
    share: float,
    pairs: wp.array(dtype=wp.vec2i),
    lengths: wp.array(dtype=float),
    compliance: wp.array(dtype=float),
    reach: wp.array(dtype=float),
    columns: int,
    body: wp.uint64,
    thickness: float,
    drag: float,
    floor: float,
    dt: float,
    touch: int,
):
    """One small step of all vertices; launched once (dim 1) for a fixed order."""
    pinned = pins_a.shape[0]
    for i in range(x.shape[0]):
        before[i] = x[i]
        if i < pinned:
            x[i] = pins_a[i] * (1.0 - share) + pins_b[i] * share
        else:
            v[i] = (v[i] + wp.vec3(0.0, 0.0, -9.81) * dt) * drag
            x[i] = x[i] + v[i] * dt
    for k in range(pairs.shape[0]):
        a = pairs[k][0]
        b = pairs[k][1]
        wa = wp.where(a < pinned, 0.0, 1.0)
        wb = wp.where(b < pinned, 0.0, 1.0)
        if wa + wb > 0.0:
            d = x[b] - x[a]
            q = wp.length(d) + 1.0e-9
            step = d * ((q - lengths[k]) / (q * (wa + wb + compliance[k] / (dt * dt))))
            x[a] = x[a] + step * wa
            x[b] = x[b] - step * wb
    for i in range(pinned, x.shape[0]):
        top = x[i % columns]
        taut = wp.length(x[i] - top)
        if taut > reach[i] * 1.02:
            x[i] = top + (x[i] - top) * (reach[i] * 1.02 / taut)
        if touch == 0:
            if x[i][2] < floor:
                x[i] = wp.vec3(x[i][0], x[i][1], floor)
            v[i] = (x[i] - before[i]) / dt
            continue
        near = wp.mesh_query_point_sign_normal(body, x[i], 0.06)
        if near.result:
            c = wp.mesh_eval_position(body, near.face, near.u, near.v)
            d = x[i] - c
            far = wp.length(d) * near.sign
            if far < thickness:
                n = wp.mesh_eval_face_normal(body, near.face)
                if near.sign > 0.0 and far > 1.0e-6:
                    n = d / far
                x[i] = c + n * thickness
                moved = wp.mesh_eval_velocity(body, near.face, near.u, near.v) * dt
                slide = x[i] - before[i] - moved
                slide = slide - n * wp.dot(slide, n)
                x[i] = x[i] - slide * _FRICTION_SHARE
        if x[i][2] < floor:
            x[i] = wp.vec3(x[i][0], x[i][1], floor)
        v[i] = (x[i] - before[i]) / dt


def simulate(
    grid: Grid,
    start: np.ndarray,
    pins: np.ndarray,
    body: np.ndarray,
    faces: np.ndarray,
    seconds: float,
    thickness: float,
    drag: float = 1.2,
) -> np.ndarray:
    """Simulate cloth that hangs from its first vertices.

    Args:
        grid: cloth.
        start: initial positions, float64 (rows, columns, 3), at rest.
        pins: positions of its first p vertices at each frame, float64 (t, p, 3).
        body: vertices of the body, float64 (t, v, 3), which cloth must not enter.
        faces: triangles of the body for contacts, int64 (f, 3).
        seconds: time between frames.
        thickness: distance from the body in metres.
        drag: rate of loss of speed to the air per second, as an exponent.

    Returns:
        Positions, float64 (t, rows, columns, 3).
    """
    used, compact = np.unique(faces, return_inverse=True)
    body = body[:, used].astype(np.float32)
    pins = pins.astype(np.float32)
    dt = seconds / STEPS
    found = np.empty((len(pins), grid.rows * grid.columns, 3))
    with wp.ScopedDevice("cpu"):
        x = wp.array(start.reshape(-1, 3).astype(np.float32), dtype=wp.vec3)
        before, v = wp.clone(x), wp.zeros_like(x)
        pairs = wp.array(grid.pairs, dtype=wp.vec2i)
        lengths, compliance, reach = (wp.array(a) for a in (grid.lengths, grid.compliance, grid.reach))
        mesh = wp.Mesh(
            points=wp.array(body[0], dtype=wp.vec3),
            indices=wp.array(compact.ravel().astype(np.int32), dtype=int),
            velocities=wp.zeros(len(used), dtype=wp.vec3),
        )
        last = wp.array(body[0], dtype=wp.vec3)
        held = wp.array(pins[0], dtype=wp.vec3)
        for frame in range(len(pins)):
            now, hold = wp.array(body[frame], dtype=wp.vec3), wp.array(pins[frame], dtype=wp.vec3)
            if frame:
                mesh.velocities.assign((body[frame] - body[frame - 1]) / np.float32(seconds))
            for step in range(STEPS):
                share = (step + 1) / STEPS
                touch = (step + 1) % _TOUCH == 0
                if touch:
                    wp.launch(_between, dim=len(used), inputs=[last, now, share, mesh.points])
                    mesh.refit()
                wp.launch(
                    _advance,
                    dim=1,
                    inputs=[
                        x, before, v, held, hold, share, pairs, lengths, compliance, reach, grid.columns,
                        mesh.id, thickness, float(np.exp(-drag * dt)), 0.004, dt, int(touch),
                    ],
                )  # fmt: skip
            last, held = now, hold
            found[frame] = x.numpy()
    return found.reshape(len(pins), grid.rows, grid.columns, 3)
