"""Checks mmps on the GPUs of a machine, and on a CPU in a dry form. Each check returns a section of a report."""

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, multiprocessing, nn

from mmps.compat import operators
from mmps.evaluation.tables import markdown_table
from mmps.gpu.random_step import build_model, random_batch, total_loss
from mmps.gpu.small_losses import PERSONS, clean_parts, losses_of_share
from mmps.models import IdentityMemory
from mmps.models.detectors.base import PersonSearchDetector

TYPES = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


class CheckFailed(AssertionError):
    """A check found what must not be. The message is its section of the report."""


def machine(device: torch.device) -> str:
    """Names the device, the versions and the operators."""
    lines = [f'torch {torch.__version__}, operators of {operators.elsewhere.__name__.split(".")[-1].split("_")[0]}']
    for index in range(torch.cuda.device_count() if device.type == 'cuda' else 0):
        properties = torch.cuda.get_device_properties(index)
        lines.append(f'{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}')
    return '\n'.join(f'- {line}' for line in lines)


def same_outputs(device: torch.device, configs: Sequence[Path], size: tuple[int, int]) -> str:
    """Compares detectors' outputs with those of the CPU, which tests compare with recorded ones.

    Raises:
        CheckFailed: They differ by more than 1e-3 of the largest value.
    """
    rows = []
    for config in configs:
        torch.manual_seed(0)
        detector = build_model(config).eval()
        if not isinstance(detector, PersonSearchDetector) or detector.dense_head is None:
            continue
        images, samples = random_batch(2, size, 4)
        expected = _outputs(detector, images, samples)
        with exact():
            found = _outputs(detector.to(device), images.to(device), [sample.to(device) for sample in samples])
        apart = {name: ((found[name].cpu() - value).abs().max() / value.abs().max()).item() for name, value in expected.items()}
        rows.append([config.stem, *(f'{value:.1e}' for value in apart.values())])
    table = markdown_table(['config', 'person logits', 'embeddings'], rows)
    if any(not float(value) <= 1e-3 for row in rows for value in row[1:]):
        raise CheckFailed(table)
    return table


@contextmanager
def exact() -> Iterator[None]:
    """Computes float32 products in float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@torch.no_grad()
def _outputs(detector: PersonSearchDetector, images: Tensor, samples: list) -> dict[str, Tensor]:
    feats = detector.extract_feat(images)
    logits = torch.cat([level.flatten() for level in detector.run_dense_head(feats)[0]])
    return dict(
        logits=logits,
        embeddings=torch.cat(detector.embed(feats, [each.gt_instances.bboxes for each in samples], in_place=True)),
    )


def published_steps(
    device: torch.device, configs: Sequence[Path], until: float, batch: int | None = None, size: tuple[int, int] = (900, 1500)
) -> str:
    """Runs a training step of each config in each type: finite losses, seconds, and peak memory.

    Args:
        until: Value of ``time.monotonic()`` after which no further config is started. Those left out are named.
        batch: Images of a batch, None = as the config says.

    Raises:
        CheckFailed: A step failed, or a loss is not finite.
    """
    rows: list[list[str]] = []
    left_out: list[str] = []
    wrong: list[str] = []
    for config in configs:
        if time.monotonic() > until:
            left_out.append(config.stem)
            continue
        try:
            rows.append(_steps_of(config, device, batch, size, wrong))
        except Exception as error:  # the other configs still say something; CheckFailed names this one
            wrong.append(f'{config.stem}: {type(error).__name__}: {error}')
        if device.type == 'cuda':
            torch.cuda.empty_cache()
    text = markdown_table(['config', 'images', *TYPES], rows)
    if left_out:
        text += f'\n\nNot reached in the time: {", ".join(left_out)}'
    if wrong:
        raise CheckFailed('\n'.join([*wrong, '', text]))
    return text


def _steps_of(config: Path, device: torch.device, batch: int | None, size: tuple[int, int], wrong: list[str]) -> list[str]:
    """Returns the config's row of the table. Appends to ``wrong`` the losses that are not finite."""
    count = batch or Config.fromfile(config).train_dataloader.batch_size
    model = build_model(config).to(device)
    images, samples = random_batch(count, size, 6)
    images, samples = images.to(device), [sample.to(device) for sample in samples]
    row = [config.stem, str(count)]
    for name, dtype in TYPES.items():
        try:
            loss, seconds, memory = _timed_step(model, images, samples, dtype)
        except torch.OutOfMemoryError:
            row.append('does not fit')
            continue
        row.append(f'{seconds:.2f} s, {memory}')
        if not math.isfinite(loss):
            wrong.append(f'{config.stem} in {name}: the loss is {loss}')
    return row


def _timed_step(model: nn.Module, images: Tensor, samples: list, dtype: torch.dtype | None) -> tuple[float, float, str]:
    """Returns loss, seconds of the second step, and peak memory."""
    device = images.device
    for _ in range(2):
        model.zero_grad()
        if device.type == 'cuda':
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = total_loss(model, images, samples)
        loss.backward()
        value = loss.item()
    memory = f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB' if device.type == 'cuda' else 'not measured'
    return value, time.perf_counter() - start, memory


def no_waits(device: torch.device) -> str:
    """Runs the memory's update and the losses where every wait for the device is an error.

    Raises:
        RuntimeError: One waits.
    """
    parts = clean_parts(device)
    for run in parts.values():
        run()  # fills caches
    if device.type == 'cuda':
        torch.cuda.set_sync_debug_mode('error')
    try:
        for run in parts.values():
            run()
    finally:
        if device.type == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
    return f'{", ".join(parts)}: none waits for the device.'


def count_waits(device: torch.device, configs: Sequence[Path], size: tuple[int, int]) -> str:
    """Counts the waits of a step of each config, which ``tools/benchmarks/device_waits.py`` foretells."""
    if device.type != 'cuda':
        return 'Not counted on a CPU.'
    rows = []
    for config in configs:
        model = build_model(config).to(device)
        images, samples = random_batch(4, size, 4)
        images, samples = images.to(device), [sample.to(device) for sample in samples]
        total_loss(model, images, samples).backward()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            total_loss(model, images, samples).backward()
            torch.cuda.set_sync_debug_mode('default')
        rows.append([config.stem, str(sum('synchroniz' in str(each.message) for each in seen))])
    return markdown_table(['config', 'waits'], rows)


def resumed(device: torch.device, config: Path, size: tuple[int, int]) -> str:
    """Compares four training steps with two, a checkpoint, and two in a new model.

    Raises:
        CheckFailed: The weights differ by more than 1e-3.
    """
    whole = _trained(build_model(config).to(device), size, range(4))[0]
    first, state = _trained(build_model(config).to(device), size, range(2))
    with tempfile.TemporaryDirectory() as folder:
        torch.save((first.state_dict(), state), Path(folder) / 'checkpoint.pth')
        weights, state = torch.load(Path(folder) / 'checkpoint.pth', map_location=device)
    second = build_model(config).to(device)
    second.load_state_dict(weights)
    second = _trained(second, size, range(2, 4), state)[0]
    found = second.state_dict()
    apart = max((found[name].double() - value.double()).abs().max().item() for name, value in whole.state_dict().items())
    if not apart <= 1e-3:
        raise CheckFailed(f'{config.stem}: weights and memory differ by {apart:.1e} from those of an uninterrupted training')
    return f'{config.stem}: {"bit for bit" if apart == 0 else f"weights and memory differ by {apart:.1e}"}'


def _trained(model: nn.Module, size: tuple[int, int], steps: range, state: dict | None = None) -> tuple[nn.Module, dict]:
    """Trains on batches that follow from their step. The first weights follow from the model's shapes."""
    device = next(model.parameters()).device
    if steps.start == 0:
        generator = torch.Generator().manual_seed(0)
        for value in (*model.parameters(), *(memory.lut for memory in model.modules() if isinstance(memory, IdentityMemory))):
            value.data = (torch.randn(value.shape, generator=generator) * 0.05).to(device)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1e-3, momentum=0.9)
    if state is not None:
        optimizer.load_state_dict(state)
    for step in steps:
        torch.manual_seed(step)
        images, samples = random_batch(2, size, 4, seed=step)
        optimizer.zero_grad()
        total_loss(model, images.to(device), [sample.to(device) for sample in samples]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, copy.deepcopy(optimizer.state_dict())


def _rank(rank: int, world: int, backend: str, file: str, found: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(backend, init_method=f'file://{file}', rank=rank, world_size=world)
    device = torch.device('cuda', rank) if backend == 'nccl' else torch.device('cpu')
    if backend == 'nccl':
        torch.cuda.set_device(device)
    edges = [PERSONS * each * each // world**2 for each in (rank, rank + 1)]  # uneven shares
    values = losses_of_share(slice(*edges), device)
    torch.distributed.all_reduce(values)
    if rank == 0:
        torch.save((values / world).cpu(), found)
    torch.distributed.destroy_process_group()


def many_ranks(device: torch.device) -> str:
    """Compares losses and memory of one process with those of a rank for each GPU (NCCL), or of two on a CPU (gloo).

    Raises:
        CheckFailed: They differ by more than 1e-4.
    """
    on_gpu = device.type == 'cuda'
    world, backend = (torch.cuda.device_count(), 'nccl') if on_gpu else (2, 'gloo')
    expected = losses_of_share(slice(None), device).cpu()
    with tempfile.TemporaryDirectory() as folder:
        found = str(Path(folder) / 'found.pth')
        multiprocessing.spawn(_rank, (world, backend, str(Path(folder) / 'store'), found), nprocs=world)
        apart = (torch.load(found) - expected).abs().max().item()
    text = f'{world} rank{"s" * (world > 1)} of {backend}: losses and memory differ by {apart:.1e} from those of one process'
    if not apart <= 1e-4:
        raise CheckFailed(text)
    return text + ('. With one GPU this says little: repeat it on several.' if world == 1 else '.')
