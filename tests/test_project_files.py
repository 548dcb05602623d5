"""The files that a project is expected to have: they are well-formed and agree with each other."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from mmps import __version__

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def steps(workflow):
    return [step for job in yaml.safe_load(workflow.read_text())['jobs'].values() for step in job['steps']]


def test_the_citation_names_the_project_and_the_paper_of_every_method():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= citation.keys()  # what the format requires
    assert citation['version'] == __version__
    for reference in citation['references']:
        assert {'type', 'title', 'authors', 'year'} <= reference.keys()
        assert all({'family-names', 'given-names'} == author.keys() for author in reference['authors'])
    named = tuple(reference['title'].lower() for reference in citation['references'])
    for metafile in ROOT.glob('configs/*/metafile.yml'):
        for collection in yaml.safe_load(metafile.read_text())['Collections']:
            assert collection['Paper']['Title'].lower().startswith(named), metafile


def test_the_licence_is_the_same_everywhere():
    licence = (ROOT / 'LICENSE').read_text()
    assert licence.split()[:5] == ['Apache', 'License', 'Version', '2.0,', 'January'] and 'mmps contributors' in licence
    metadata = ConfigParser()
    metadata.read(ROOT / 'setup.cfg')
    assert metadata['metadata']['license'] == yaml.safe_load((ROOT / 'CITATION.cff').read_text())['license'] == 'Apache-2.0'
    assert (ROOT / metadata['metadata']['license_files']).is_file()


def test_the_changelog_has_sections_of_the_usual_names():
    lines = (ROOT / 'CHANGELOG.md').read_text().splitlines()
    assert next(line for line in lines if line.startswith('## ')) == '## [Unreleased]'
    usual = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
    assert {line.removeprefix('### ') for line in lines if line.startswith('### ')} <= usual


def test_links_of_the_guides_lead_somewhere():
    for name in ('CONTRIBUTING.md', 'CHANGELOG.md'):
        for target in re.findall(r'\]\((?!https?:)([^)#]+)', (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f'{name}: {target}'


@pytest.mark.parametrize('workflow', WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_makes_targets_that_the_makefile_has(workflow):
    made = [step['run'].removeprefix('make ') for step in steps(workflow) if step.get('run', '').startswith('make ')]
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert made and set(made) <= set(targets)
    assert all('@v' in step['uses'] for step in steps(workflow) if 'uses' in step)


def test_the_contributing_guide_names_targets_that_the_makefile_has():
    made = re.findall(r'^make ([a-z-]+)', (ROOT / 'CONTRIBUTING.md').read_text(), re.MULTILINE)
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert made and set(made) <= set(targets)


def test_ci_runs_on_pythons_that_the_package_accepts():
    metadata = ConfigParser()
    metadata.read(ROOT / 'setup.cfg')
    known = re.findall(r'Python :: (3\.\d+)', metadata['metadata']['classifiers'])
    matrix = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())['jobs']['test']['strategy']['matrix']
    assert set(matrix['python']) == {'3.11', '3.13'} <= set(known)
    assert metadata['options']['python_requires'] == f'>={known[0]}'


def test_the_commit_hooks_run_the_ruff_of_the_set_up():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
    assert [hook['id'] for hook in hooks] == ['ruff-check', 'ruff-format']
    assert all(hook['entry'].startswith('.venv/bin/python -m ruff ') for hook in hooks)
