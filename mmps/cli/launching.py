"""Starts ranks where MMEngine's launchers fail: under Open MPI, and without an accelerator."""

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils import digit_version

from mmps.compat.upstream import MMENGINE


def launch_by_mpi() -> None:
    """Sets the variables that torch reads from those of Open MPI. On one machine, that machine is the master.

    mmengine 0.10.7, launcher ``mpi``, does not give each rank its own device: all ranks would use the first one.

    Raises:
        ValueError: The process was not started by Open MPI's ``mpirun``, or there are several machines and no MASTER_ADDR.
    """
    try:
        ranks = {name: os.environ[f'OMPI_COMM_WORLD_{name}'] for name in ('RANK', 'SIZE', 'LOCAL_RANK', 'LOCAL_SIZE')}
    except KeyError as error:
        raise ValueError(f"--launcher mpi: {error.args[0]} is not set: start the tool with Open MPI's mpirun") from error
    if ranks['SIZE'] == ranks['LOCAL_SIZE']:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    elif 'MASTER_ADDR' not in os.environ:
        raise ValueError('--launcher mpi: several machines need MASTER_ADDR, the address of rank 0: mpirun -x MASTER_ADDR=...')
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(RANK=ranks['RANK'], WORLD_SIZE=ranks['SIZE'], LOCAL_RANK=ranks['LOCAL_RANK'])


def launch_by_slurm() -> None:
    """Sets the variables that torch reads from those of Slurm. The master is the first node of the job.

    mmengine 0.10.7 does the same, but only with an accelerator.

    Raises:
        ValueError: The process was not started by ``srun``.
    """
    try:
        ranks = {name: os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'LOCALID', 'NODELIST')}
    except KeyError as error:
        raise ValueError(f'--launcher slurm: {error.args[0]} is not set: start the tool with srun') from error
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', ranks['NODELIST']]
        nodes = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(RANK=ranks['PROCID'], WORLD_SIZE=ranks['NTASKS'], LOCAL_RANK=ranks['LOCALID'])


def launch_on_cpu(cfg: Config) -> None:
    """Makes the gloo process group, and has the model wrapped without a device, if there is no accelerator.

    mmengine 0.10.7, launchers ``pytorch``, ``slurm`` and ``mpi``, asks CUDA for a device whatever the backend is. A rank
    waits for another one for ten minutes, as with NCCL, or for ``env_cfg.dist_cfg.timeout`` seconds; gloo's own default is
    half an hour.
    """
    is_fixed = digit_version('0.10.7') < MMENGINE
    if not is_fixed and cfg.get('launcher') in ('pytorch', 'slurm', 'mpi') and get_device() == 'cpu':
        if not torch.distributed.is_initialized():
            if cfg.launcher == 'slurm':
                launch_by_slurm()
            seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600)
            torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=seconds))
        unused = cfg.get('find_unused_parameters', False)
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=unused)
        cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
