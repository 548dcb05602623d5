"""Makes pictures of white sheets with crops and text and of matplotlib figures. Pictures are uint8 (H, W, 3), RGB."""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 100
INK = (50, 50, 50)


class Sheet:
    """A white sheet of height x width pixels for pictures, frames and text. Positions are pixels from the top left."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels = np.full((height, width, 3), 255, np.uint8)
        self._texts: list[tuple[str, int, int, dict]] = []

    def paste(self, picture: np.ndarray, y: int, x: int) -> None:
        self.pixels[y : y + picture.shape[0], x : x + picture.shape[1]] = picture

    def frame(self, y: int, x: int, height: int, width: int, colour: tuple[int, int, int], thickness: int = 3) -> None:
        """Draws a frame around height x width pixels from (y, x) on, outside of them."""
        for side in range(1, thickness + 1):
            cv2.rectangle(self.pixels, (x - side, y - side), (x + width + side - 1, y + height + side - 1), colour, 1)

    def write(self, text: str, y: int, x: int, points: float = 8, bold: bool = False) -> None:
        """Adds text whose base line begins at (y, x)."""
        self._texts.append((text, y, x, dict(fontsize=points, fontweight='bold' if bold else 'normal')))

    def picture(self) -> np.ndarray:
        height, width = self.pixels.shape[:2]
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        figure.figimage(self.pixels)
        for text, y, x, font in self._texts:
            figure.text(x / width, 1 - y / height, text, color=np.divide(INK, 255), va='baseline', **font)
        return picture_of(figure)


def picture_of(figure: Figure) -> np.ndarray:
    """Renders a matplotlib figure as a picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def read_picture(path: str | Path) -> np.ndarray:
    """Reads an image file.

    Raises:
        FileNotFoundError: The file does not exist or is no image.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f'{path}: there is no readable image')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes an image file. The suffix of the path gives the format.

    Raises:
        OSError: The file cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'{path}: could not be written')
