"""Makes .venv with all that mmps needs; does nothing where it is already there: tools/setup_env.py --torch 2.13.0

It runs on whatever Python is there, before anything is installed: standard library only, and a syntax that an old
Python reads, so that it can turn that Python away. What can be refused is refused before the first download.
"""
import argparse
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, '.venv')
PYTHON = os.path.join(VENV, 'Scripts' if os.name == 'nt' else 'bin', 'python')
STAMP = os.path.join(VENV, 'mmps-setup.stamp')
LOG = os.path.join(VENV, 'mmps-setup.log')
OLDEST_PYTHON = (3, 10)
# From 81 on, setuptools may lack pkg_resources, which MMCV's build and MMEngine import.
BUILD_TOOLS = ['setuptools<81', 'wheel', 'ninja']
SETUP_FILES = ['requirements.txt', 'requirements/*', 'setup.*', 'pyproject.toml', 'mmps/version.py', 'tools/setup*']


class SetupError(Exception):
    """What is missing and what to do about it."""


def dotted(version=sys.version_info):
    return f'{version[0]}.{version[1]}'


def check_python(version=sys.version_info):
    if tuple(version[:2]) < OLDEST_PYTHON:
        raise SetupError(
            f'mmps needs Python {dotted(OLDEST_PYTHON)} or newer, and this is {dotted(version)}: '
            'name a newer one, as in "make PYTHON=python3.12 test"'
        )


def check_can_compile(what):
    """MMCV's operators need a C++ compiler and Python's headers."""
    names = os.environ['CXX'].split()[:1] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    headers = os.path.join(sysconfig.get_path('include'), 'Python.h')
    if not any(shutil.which(name) for name in names):
        missing, package = f'a C++ compiler ({" or ".join(names)})', 'g++'
    elif not os.path.exists(headers):
        missing, package = f"this Python's headers ({headers})", 'python3-dev'
    else:
        return
    raise SetupError(
        f'{what} has no wheel here and must be compiled, but {missing} is missing: install it (the package is often '
        f'called {package}), or let PIP_FIND_LINKS lead to a wheel'
    )


def wanted_state(torch):
    """Two lines: which environment this is, and a digest of all that says what belongs into it."""
    digest = hashlib.sha256(torch.encode())
    for pattern in SETUP_FILES:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            with open(path, 'rb') as file:
                digest.update(os.path.relpath(path, ROOT).encode() + b'\0' + file.read() + b'\0')
    return f'Python {dotted()} in {VENV}\n{digest.hexdigest()}\n'


def stamped_state():
    if not os.path.exists(STAMP) or not os.path.exists(PYTHON):
        return ''
    with open(STAMP) as file:
        return file.read()


def run(step, command, progress=None, env=None):
    """Run a command with its output in the log, and one line on the terminal that says how far it is."""
    start, shown, on_terminal = time.time(), 0, sys.stdout.isatty()
    print(step, end='' if on_terminal else '\n', flush=True)
    with open(LOG, 'a+b') as log:
        log.write(f'\n$ {" ".join(command)}\n'.encode())
        log.flush()
        log_start = log.tell()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=env)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                seconds = time.time() - start
                if seconds - shown >= (1 if on_terminal else 60):
                    shown = seconds
                    log.seek(log_start)
                    done = progress(log.read()) if progress else ''
                    text = f'{step}: {done}{int(seconds) // 60}:{int(seconds) % 60:02d}'
                    print(f'\r{text}\033[K' if on_terminal else text, end='' if on_terminal else '\n', flush=True)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            if on_terminal:
                print(flush=True)
        if process.returncode:
            log.seek(log_start)
            raise SetupError(what_failed(step, process.returncode, log.read().decode(errors='replace')))


def what_failed(step, status, output):
    """The lines that say error where there are some, else the last ones."""
    lines = [line for line in output.splitlines() if 'warning:' not in line.lower()]
    errors = [line for line in lines if re.search(r'error[: ]', line, re.I)]
    how = f'was killed by signal {-status}' if status < 0 else 'failed'
    return '\n'.join([f'{step} {how}. From {LOG}:', *(errors or lines)[-15:]])


def ask(code):
    """What the environment's Python prints; None where it fails."""
    done = subprocess.run([PYTHON, '-c', textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def pip(*arguments):
    return [PYTHON, '-m', 'pip', '--disable-pip-version-check', *arguments]


def make_venv():
    """Keep a .venv of the same Python; make it anew where it is another's, was moved, or is broken."""
    same_place = not stamped_state() or stamped_state().splitlines()[0] == wanted_state('').splitlines()[0]
    same_python = os.path.exists(PYTHON) and ask('import sys, pip; print(*sys.version_info[:2], sep=".")') == dotted()
    if same_place and same_python:
        return
    print(f'Making .venv with Python {dotted()}', flush=True)
    base = getattr(sys, '_base_executable', None) or sys.executable  # not .venv's own, which is about to go
    done = subprocess.run([base, '-m', 'venv', '--clear', VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SetupError(
            f'{base} cannot make a virtual environment (on Debian and Ubuntu, install python3-venv):\n'
            + done.stdout.decode(errors='replace')
        )


def pinned(package):
    """The version that requirements.txt pins."""
    with open(os.path.join(ROOT, 'requirements.txt')) as file:
        return re.search(rf'^{package}==([^\s;]+)', file.read(), re.M).group(1)


def wheel_folder(torch, device):
    """Where compiled wheels are kept for every clone: each fits one Python, one torch, one platform and one device."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    key = (sys.implementation.cache_tag, 'torch' + torch.split('+')[0], sysconfig.get_platform(), device)
    return os.path.join(cache, 'mmps', 'wheels', '-'.join(key))


def cached_wheel(version, torch, device):
    """A wheel that was compiled earlier; a device of '*' is any."""
    folder = glob.escape(wheel_folder(torch, device)).replace('[*]', '*')
    return next(iter(glob.glob(os.path.join(folder, f'mmcv-{version}-*.whl'))), None)


def offered_wheel(version, folder):
    """The wheel that pip finds (PIP_FIND_LINKS first of all), brought to ``folder``; None where there is none."""
    command = pip('download', '-q', '--no-deps', '--only-binary', 'mmcv', '-d', folder, 'mmcv==' + version)
    with open(LOG, 'ab') as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
    return next(iter(glob.glob(os.path.join(folder, 'mmcv-*.whl'))), None)


def mmcv_works(version):
    """Whether MMCV is there and its operators load with this torch (MMCV itself needs packages that come later)."""
    return None is not ask(f'''
        import importlib.metadata, sys, sysconfig, torch
        assert importlib.metadata.version('mmcv') == '{version}'
        sys.path.insert(0, sysconfig.get_path('platlib') + '/mmcv')
        import _ext
    ''')


def torch_and_device():
    """The version of the installed torch, and what MMCV's build compiles for: 'cpu', or CUDA and the kind of GPU."""
    answer = ask('''
        import os, re, torch
        found, forced = torch.cuda.is_available(), os.environ.get('FORCE_CUDA') == '1'
        kind = os.environ.get('TORCH_CUDA_ARCH_LIST') or (torch.cuda.get_device_capability() if found else 'all')
        device = f'cuda{torch.version.cuda}-{kind}' if found or forced else 'cpu'
        print(torch.__version__, re.sub('[^a-zA-Z0-9.-]+', '_', device))
    ''')
    if answer is None:
        raise SetupError(f'torch is installed but cannot be imported: {PYTHON} -c "import torch" says why')
    return answer.split()


def ninja_progress(output):
    """How far ninja is, from its last ``[done/all]``."""
    steps = re.findall(rb'^\s*\[(\d+)/(\d+)\]', output, re.M)
    return 'compiled {} of {} files, '.format(*(number.decode() for number in steps[-1])) if steps else ''


def compile_mmcv(step, version, torch, device):
    """Compile MMCV's operators into the cache; returns the wheel."""
    what = f'mmcv {version}'
    check_can_compile(what)
    if device != 'cpu' and ask('from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME)') in (None, 'None'):
        raise SetupError(
            f'{what} must be compiled for the GPU, but nvcc is missing: install the CUDA toolkit of the version that '
            'this torch was built with, or set CUDA_HOME; with CUDA_VISIBLE_DEVICES= (empty) it is compiled for the CPU'
        )
    folder = wheel_folder(torch, device)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    environment = dict(os.environ, MMCV_WITH_OPS='1', CFLAGS=(os.environ.get('CFLAGS', '') + ' -g0').strip())
    build = tempfile.mkdtemp(dir=os.path.dirname(folder))
    # pip's own cache would keep the wheel for whatever torch comes next, so it must not see it.
    command = pip('wheel', '-v', '--no-cache-dir', '--no-build-isolation', '--no-deps', '-w', build, 'mmcv==' + version)
    try:
        run(step + ' (no wheel fits: compiling it, once)', command, ninja_progress, environment)
        wheel = glob.glob(os.path.join(build, 'mmcv-*.whl'))[0]
        os.makedirs(folder, exist_ok=True)
        os.replace(wheel, os.path.join(folder, os.path.basename(wheel)))  # in one go: another clone may be looking
    finally:
        shutil.rmtree(build)
    return cached_wheel(version, torch, device)


def install_mmcv(step, version, offered):
    """From the cache, else the wheel that pip offered where it fits this torch, else compiled."""
    if mmcv_works(version):
        print(step, flush=True)
        return
    torch, device = torch_and_device()
    install = pip('install', '--no-deps', '--force-reinstall')
    for wheel in (cached_wheel(version, torch, device), offered):
        if wheel:
            run(step, [*install, wheel])
            if mmcv_works(version):
                return
    run(step, [*install, compile_mmcv(step, version, torch, device)])
    if not mmcv_works(version):
        raise SetupError(f'mmcv {version} was compiled, but its operators do not load with torch {torch}')


def install(torch):
    version = pinned('mmcv')
    make_venv()
    if os.path.exists(STAMP):
        os.remove(STAMP)  # what fails half-way is tried again
    with tempfile.TemporaryDirectory() as folder:
        offered = None
        same_torch = ask('import torch; print(torch.__version__.split("+")[0])') == torch
        if not (same_torch and mmcv_works(version)):
            offered = offered_wheel(version, folder)
            if not offered and not cached_wheel(version, torch, '*'):
                check_can_compile(f'mmcv {version}')
        run(f'1/4 torch {torch}', pip('install', 'torch==' + torch, *BUILD_TOOLS))
        install_mmcv(f'2/4 mmcv {version}', version, offered)
    requirements = [part for name in ('requirements.txt', 'requirements/tests.txt') for part in ('-r', name)]
    run('3/4 the other requirements', pip('install', *requirements))
    run('4/4 mmps', pip('install', '--no-deps', '--no-build-isolation', '-e', '.'))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--torch', required=True, help='version of torch to install')
    torch = parser.parse_args().torch
    check_python()
    if stamped_state() == wanted_state(torch):
        return
    install(torch)
    with open(STAMP, 'w') as file:
        file.write(wanted_state(torch))


if __name__ == '__main__':
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('interrupted')
