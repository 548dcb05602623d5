import torch
from mmdet.structures import SampleList
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn


class ImageConversion(nn.Module):
    """Converts normalized images from one model's preprocessor to another's.

    Mean, standard deviation and channel order may differ. The padding is zero in both and stays zero.

    Args:
        source: The preprocessor that made the images.
        target: The preprocessor to imitate. Its padding is ignored: images keep their size.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, source: ImgDataPreprocessor, target: ImgDataPreprocessor):
        super().__init__()
        (mean, std), (wanted_mean, wanted_std) = (normalization(preprocessor) for preprocessor in (source, target))
        self.flip = source._channel_conversion != target._channel_conversion
        if self.flip:
            mean, std = mean.flip(0), std.flip(0)
        self.register_buffer('scale', std / wanted_std, persistent=False)
        self.register_buffer('shift', (mean - wanted_mean) / wanted_std, persistent=False)
        self.needed = self.flip or not (torch.equal(mean, wanted_mean) and torch.equal(std, wanted_std))

    def forward(self, images: Tensor, samples: SampleList) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W). Returns the same tensor if the preprocessors do not differ."""
        if not self.needed:
            return images
        converted = (images.flip(1) if self.flip else images) * self.scale + self.shift
        height, width = images.shape[2:]
        sizes = [sample.img_shape[:2] for sample in samples]
        if all(size == (height, width) for size in sizes):
            return converted
        heights, widths = torch.tensor(sizes).T[..., None].to(images.device, non_blocking=True)
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        inside = (rows < heights)[:, :, None] & (columns < widths)[:, None]
        return converted * inside[:, None]


def normalization(preprocessor: ImgDataPreprocessor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, (3, 1, 1) each, in the channel order of the model's input."""
    if preprocessor._enable_normalize:
        return preprocessor.mean, preprocessor.std
    return torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
