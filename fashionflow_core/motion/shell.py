"""Shell renderer: layers moved by motion channels over the background plate.

Front and back of each layer move by ``mid-surface +- b * e``; triangles facing the camera are drawn with a z-buffer.
Stretched areas take the blurred colour of their part; the matte's soft edge is drawn behind the surfaces.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from fashionflow_core.motion import shading, textures
from fashionflow_core.motion.constraints import Constraints, MotionLimits
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import DEPTH, Layer, figure_window, split
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.mesh import Mesh, soft_edge, surface
from fashionflow_core.motion.rasterizer import Triangles, facing, rasterize
from fashionflow_core.motion.uncovered import FULL, mirrored

_GAMMA = 2.2  # luminance to pixel values, for the gain channel
_CHUNK = 8  # frames per chunk of channels at the vertices
_LEAST_SHARE = 0.05  # minimum share of a grid cell for it to count for a layer
_STILL = 0.004  # figure heights of motion below which the photo's residual is restored


class Shell:
    """A photo animated by motion channels.

    Attributes:
        layers: layers of the figure, body first; their arrays cover the figure's window.
    """

    def __init__(
        self,
        photo: np.ndarray,
        matte: Matte,
        plate: np.ndarray,
        box: FigureBox,
        device: str | torch.device = "cpu",
        subpixels: int = 2,
    ) -> None:
        """Prepare a photo.

        Args:
            photo: photo, uint8 (h, w, 3).
            matte: matte of the photo.
            plate: background without the figure, float32 (h, w, 3), 0..255.
            box: box of the figure, the position and unit of the channels.
            device: device of the renderer.
            subpixels: samples per pixel along each axis.
        """
        if photo.shape[:2] != matte.alpha.shape or photo.shape != plate.shape:
            raise ValueError(f"photo {photo.shape}, matte {matte.alpha.shape} and plate {plate.shape} differ in size")
        self.device = torch.device(device)
        self.height, self.width = matte.alpha.shape
        self.subpixels = subpixels
        self._photo = torch.tensor(photo, device=self.device)
        self._plate = torch.from_numpy(plate.astype(np.float32)).to(self.device)
        # from here on all coordinates are pixels of the figure's window
        window = figure_window(matte.alpha)
        self._top, self._left = window[0].start, window[1].start
        self._box = replace(box, top=box.top - self._top, left=box.left - self._left)
        photo, plate, alpha = photo[window], plate[window], matte.alpha[window].astype(np.float32)
        parts = None if matte.parts is None else matte.parts[window]
        self.layers = split(alpha, parts)
        # the arms share a texture, since they do not hide each other
        groups = [self.layers[:1], self.layers[1:]] if len(self.layers) > 1 else [self.layers]
        self._slots = len(groups)
        near, far = textures.layer_textures(photo, alpha, plate, parts, groups)
        self._near, self._far = near.to(self.device), far.to(self.device)
        self._edge_texture = textures.edge_texture(photo, alpha, plate).to(self.device)
        meshes = [surface(layer.alpha, layer.e, layer.rim, layer.z0) for layer in self.layers]
        owners = [np.full(len(mesh.x), k) for k, mesh in enumerate(meshes)]
        constraints = Constraints(alpha, parts, box.figure_height)
        self._surface = _Drawn(_joined(meshes), np.concatenate(owners), constraints, self.device)
        self._shading = _at_vertices(shading.fit(photo, alpha, parts, self.layers), self._surface)
        edge = soft_edge(alpha)
        self._edge = _Drawn(edge, _owner(self.layers, edge), constraints, self.device)
        # row of each vertex in the atlas
        slot = (self._surface.owner > 0).float()
        self._texture_row = self._surface.y + textures.PAD + slot * (len(alpha) + 2 * textures.PAD)
        self._covers = _covers(self.layers, alpha, self._box)
        self._residual: torch.Tensor | None = None

    @torch.no_grad()
    def frames(self, channels: np.ndarray, fade: int = 12) -> Iterator[np.ndarray]:
        """Render the photo in motion.

        Args:
            channels: float32 (4 or 5, n, 40, 32): ax, ay, b, dz and, if there, gain (natural logarithm of luminance
                against the photo).
            fade: frames over which the difference between the photo and the rendered photo fades; it is restored where
                the figure is almost as in the photo.

        Yields:
            Frames, uint8 (h, w, 3); bit-identical to the photo without motion.
        """
        if channels.ndim != 4 or channels.shape[0] not in (4, 5) or channels.shape[2:] != GRID:
            raise ValueError(f"channels (4 or 5, n, {GRID[0]}, {GRID[1]}) expected, got {channels.shape}")
        if self._residual is None:
            self._residual = self._photo.float() - self._drawn_still()
        for start in range(0, channels.shape[1], _CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(channels[:, start : start + _CHUNK], np.float32))
            at_surface, at_edge = self._moved(part)
            for k in range(part.shape[1]):
                picture = self._render(at_surface, at_edge, k)
                most = float(at_surface[:4, k].abs().max()) if at_surface.shape[2] else 0.0
                weight = max(_smoothstep(1 - (start + k) / max(fade, 1)), _smoothstep(1 - most / _STILL))
                if weight > 0:
                    picture.add_(self._residual, alpha=weight)
                yield picture.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def still(self) -> np.ndarray:
        """The photo rendered without motion and without the residual, float32 (h, w, 3)."""
        return self._drawn_still().cpu().numpy()

    def _drawn_still(self) -> torch.Tensor:
        return self._render(*self._moved(torch.zeros(4, 1, *GRID)), 0)

    def _moved(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Channels (c, n, 40, 32) at the vertices of surface and soft edge, (c, n, v)."""
        count, times = channels.shape[:2]
        results = []
        for drawn in (self._surface, self._edge):
            at = torch.zeros(count, times, len(drawn.x), device=self.device)
            for k, cover in enumerate(self._covers):
                index = torch.nonzero(drawn.owner == k)[:, 0]
                if not len(index):
                    continue
                field = textures.fill(channels.reshape(count * times, *GRID), cover)
                column, row = self._box.cells(drawn.x[index].cpu().numpy(), drawn.y[index].cpu().numpy())
                grid = np.stack([column / GRID[1] * 2 - 1, row / GRID[0] * 2 - 1], -1).astype(np.float32)
                places = torch.from_numpy(grid).to(self.device)[None, None]
                values = F.grid_sample(
                    field[None].to(self.device), places, mode="bicubic", padding_mode="border", align_corners=False
                )
                at[:, :, index] = values[0, :, 0].view(count, times, -1)
            results.append(drawn.limits.apply(at))
        gain = self._shading.gain(results[0][2])[None]
        if count > 4:
            gain = gain + results[0][4:]
        return torch.cat([results[0][:4], gain]), results[1]

    def _placed(self, drawn: "_Drawn", channels: torch.Tensor, signs: tuple[int, ...]) -> Triangles:
        """Triangles of the sides that face the camera; channels (c, v)."""
        unit, n = self._box.figure_height, self.subpixels
        y = drawn.hung((drawn.y + self._top + channels[1] * unit) * n)
        mid, turn = (drawn.x + self._left + channels[0] * unit) * n, channels[2] * drawn.e * n
        depth = drawn.z0 + channels[3] * unit
        sides = []
        for sign in signs:
            x = drawn.hung(torch.add(mid, turn, alpha=sign))
            z = drawn.hung(torch.add(depth, drawn.e, alpha=sign * DEPTH))
            sides.append(facing(x, y, z, drawn.corners, sign))
        return Triangles.concatenate(sides)

    def _render(self, at_surface: torch.Tensor, at_edge: torch.Tensor, k: int) -> torch.Tensor:
        """Frame k of channels at the vertices, float32 (h, w, 3), without the residual."""
        n = self.subpixels
        surface_triangles = self._placed(self._surface, at_surface[:, k], (1, -1))
        edge_triangles = self._placed(self._edge, at_edge[:, k], (1,))
        left, top, width, height = self._window(surface_triangles, edge_triangles)
        picture = self._plate.clone()
        if width <= 0 or height <= 0:
            return picture
        window = (left * n, top * n, width * n, height * n)
        attributes = [self._surface.x, self._texture_row, at_surface[4, k]]
        stretch = self._surface.stretch(surface_triangles, n)
        samples = rasterize(surface_triangles, torch.stack(attributes), stretch, window)
        colour, cover = (v.view(-1, height, width) for v in self._coloured(samples, width, height))
        cover = cover[0]
        edge = rasterize(edge_triangles, torch.stack([self._edge.x, self._edge.y]), None, window)
        free = _pooled(edge[-1:] * (1 - samples[-2]), n)
        colour, cover = _softened(colour, cover, free)
        soft, alpha = self._soft_edge(edge)
        # the surface's share of a pixel is part of the matte's: together they cover the larger of the two
        rest = (alpha - cover).clamp_(min=0)
        under = picture[top : top + height, left : left + width].permute(2, 0, 1)
        mixed = under * (1 - cover - rest) + colour * cover + soft * (rest / alpha.clamp(min=1e-3))
        picture[top : top + height, left : left + width] = mixed.permute(1, 2, 0)
        return picture

    def _window(self, *sets: Triangles) -> tuple[int, int, int, int]:
        """Left, top, width and height of the drawn area in pixels, with a margin for filters."""
        full = [triangles for triangles in sets if triangles.x.shape[1]]
        if not full:
            return 0, 0, 0, 0
        lows = torch.stack([torch.stack([t.x.min(), t.y.min()]) for t in full]).amin(0)
        highs = torch.stack([torch.stack([t.x.max(), t.y.max()]) for t in full]).amax(0)
        x0, y0, x1, y1 = (torch.cat([lows, highs]) / self.subpixels).tolist()
        left, top = max(0, int(x0) - 3), max(0, int(y0) - 3)
        return left, top, min(self.width, int(x1) + 4) - left, min(self.height, int(y1) + 4) - top

    def _coloured(self, samples: torch.Tensor, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Colour (3, pixels) and coverage (pixels,) of the surfaces from their samples."""
        n = self.subpixels
        pooled = _pooled(samples, n)
        cover, stretch = pooled[-2].reshape(-1), _blurred(pooled[-1:]).reshape(-1)
        inner = [samples[:2, a::n, b::n] for a in range(n) for b in range(n)]
        high, low = inner[0], inner[0]
        for values in inner[1:]:
            high, low = torch.maximum(high, values), torch.minimum(low, values)
        smooth = (cover > 0.999) & ((high - low) < 0.9).all(0).view(-1)
        centre = (pooled[:2] / pooled[-2].clamp(min=1e-3)).view(2, -1)
        colour = torch.zeros(3, height * width, device=self.device)
        # one sample per pixel where the map is smooth: at rest it is at the pixel's centre and equals the photo
        index = torch.nonzero(smooth)[:, 0]
        colour[:, index] = _sampled(self._near, centre[:, index], "bicubic")
        index = torch.nonzero(~smooth & (cover > 0))[:, 0]
        parts = _samples_of(samples, index, n)
        colours = _sampled(self._near, parts[:2].reshape(2, -1), "bicubic").view(3, -1, n * n)
        colour[:, index] = (colours * parts[-2]).sum(-1) / parts[-2].sum(-1)
        index = torch.nonzero((stretch > 0.004) & (cover > 0))[:, 0]
        if len(index):
            planes = [v.view(height, width) for v in (stretch, cover, centre[1] >= self._near.shape[2] / self._slots)]
            copied, found = mirrored(colour.view(3, height, width), planes[0], planes[1], planes[2].int())
            blurred = _sampled(self._far, centre[:, index], "bilinear")
            found = found.view(-1)[index]
            share = torch.where(found, (stretch[index] / FULL).clamp(max=1), stretch[index])
            colour[:, index] = torch.lerp(
                colour[:, index], torch.where(found, copied.view(3, -1)[:, index], blurred), share
            )
        colour *= torch.exp(pooled[2].reshape(-1) / cover.clamp(min=1e-3) / _GAMMA)
        return colour, cover

    def _soft_edge(self, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colour times alpha (3, h, w) and alpha (h, w) of the soft edge from its samples, one look-up per pixel."""
        n = self.subpixels
        pooled = _pooled(edge, n)
        share = pooled[-1].reshape(-1)
        index = torch.nonzero(share > 0)[:, 0]
        share = share[index]
        places = pooled[:2].reshape(2, -1)[:, index] / share
        values = torch.zeros(4, pooled[-1].numel(), device=self.device)
        values[:, index] = _sampled(self._edge_texture, places, "bilinear") * share
        values = values.view(4, *pooled.shape[1:])
        return values[:3], values[3]


class _Drawn:
    """A mesh on a device, with the layer of each vertex and the limits of its motion."""

    def __init__(self, mesh: Mesh, owner: np.ndarray, constraints: Constraints, device: torch.device) -> None:
        def put(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self.x, self.y, self.e, self.z0 = put(mesh.x), put(mesh.y), put(mesh.e), put(mesh.z0)
        self.corners = put(mesh.triangles.T)
        self.hanging, self.share = put(mesh.hanging), put(mesh.share)
        self.owner = put(owner)
        limits = constraints.at(mesh.x, mesh.y, owner == 0)
        self.limits = MotionLimits(*(v.to(device) for v in (limits.across, limits.down, limits.turn, limits.head)))

    def hung(self, values: torch.Tensor) -> torch.Tensor:
        """Values at vertices, with those on an edge of a larger cell interpolated between its ends."""
        at, first, last = self.hanging
        return values.index_copy(0, at, torch.lerp(values[first], values[last], self.share)) if len(at) else values

    def stretch(self, triangles: Triangles, subpixels: int) -> torch.Tensor:
        """Stretch of each triangle by area, 0 (up to 1.5 times) to 1 (3.3 times)."""
        x, y = self.x[triangles.corners], self.y[triangles.corners]
        source = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        ratio = source / triangles.doubled_area().abs() * subpixels**2
        return ((0.65 - ratio) / 0.35).clamp(0, 1)


def _at_vertices(maps: list[np.ndarray], drawn: "_Drawn") -> shading.Shading:
    """Shading of each vertex's own layer."""
    height, width = maps[0].shape[1:]
    rows = drawn.y.cpu().numpy().astype(int).clip(0, height - 1)
    columns = drawn.x.cpu().numpy().astype(int).clip(0, width - 1)
    values = np.stack(maps)[drawn.owner.cpu().numpy(), :, rows, columns]
    return shading.Shading(*torch.from_numpy(np.ascontiguousarray(values.T)).to(drawn.x.device))


def _sampled(texture: torch.Tensor, places: torch.Tensor, mode: str) -> torch.Tensor:
    """Colours (c, k) of a texture (1, c, h, w) at positions (2, k) in its pixels."""
    height, width = texture.shape[-2:]
    grid = torch.stack([places[0] / width * 2 - 1, places[1] / height * 2 - 1], -1)[None, None]
    return F.grid_sample(texture, grid, mode=mode, padding_mode="border", align_corners=False)[0, :, 0]


def _softened(colour: torch.Tensor, cover: torch.Tensor, edge: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour (3, h, w) and coverage (h, w), smoothed where the silhouette is a fold without a soft edge."""
    near = F.avg_pool2d(F.avg_pool2d(edge[None], (1, 5), 1, (0, 2)), (5, 1), 1, (2, 0))[0, 0]
    fold = (1 - 5 * near).clamp_(0, 1)
    blurred = _blurred(torch.cat([colour * cover, cover[None]]))
    colour = torch.where(cover > 0, colour, blurred[:3] / blurred[3].clamp(min=1e-3))
    return colour, torch.lerp(cover, blurred[3], fold)


def _pooled(samples: torch.Tensor, n: int) -> torch.Tensor:
    """Means of n by n samples, (c, h * n, w * n) to (c, h, w); twice as fast as avg_pool2d."""
    rows = sum((samples[:, k::n] for k in range(1, n)), start=samples[:, ::n])
    total = sum((rows[..., k::n] for k in range(1, n)), start=rows[..., ::n])
    return total / (n * n)


def _blurred(image: torch.Tensor) -> torch.Tensor:
    """An image (c, h, w) under the binomial filter of 3 by 3."""
    image = F.pad(image[None], (1, 1, 1, 1), mode="replicate")[0]
    image = image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]
    return (image[..., :-2] + 2 * image[..., 1:-1] + image[..., 2:]) / 16


def _samples_of(samples: torch.Tensor, pixels: torch.Tensor, n: int) -> torch.Tensor:
    """(c, height * n, width * n) at some pixels: (c, k, n * n)."""
    width = samples.shape[-1] // n
    row = torch.div(pixels, width, rounding_mode="floor")
    first = row * (n * n * width) + (pixels - row * width) * n
    steps = torch.arange(n, device=pixels.device)
    places = first[:, None] + (steps[:, None] * (n * width) + steps).view(-1)
    return samples.reshape(len(samples), -1)[:, places]


def _joined(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.x) for mesh in meshes)])[:-1]
    x, y, e, z0 = (np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in ("x", "y", "e", "z0"))
    return Mesh(
        x,
        y,
        e,
        z0,
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.hanging + start for mesh, start in zip(meshes, starts, strict=True)], axis=1),
        np.concatenate([mesh.share for mesh in meshes]),
    )


def _owner(layers: list[Layer], mesh: Mesh) -> np.ndarray:
    """Index of the visible layer at each vertex."""
    height, width = layers[0].alpha.shape
    rows = np.minimum(mesh.y.astype(int), height - 1)
    columns = np.minimum(mesh.x.astype(int), width - 1)
    owner = np.zeros(len(mesh.x), np.int64)
    for k, layer in enumerate(layers):
        owner[layer.seen[rows, columns]] = k
    return owner


def _covers(layers: list[Layer], alpha: np.ndarray, box: FigureBox) -> list[torch.Tensor]:
    """Grid cells of each layer, (40, 32) of 0 and 1, where it is mostly visible."""
    shares = np.stack([box.resample(alpha * layer.seen, *GRID, outside=0.0) for layer in layers])
    covers = []
    for share in shares:
        known = (share >= shares.max(0)) & (share > _LEAST_SHARE)
        if not known.any():  # a thin arm: the cells with the largest share
            known = (share >= 0.5 * share.max()) & (share > 0)
        covers.append(torch.from_numpy((known if known.any() else np.ones(GRID, bool)).astype(np.float32)))
    return covers


def _smoothstep(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return value * value * (3 - 2 * value)
