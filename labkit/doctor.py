"""Is this installation whole? Every finding is a sentence, and says what to do when something is not well."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import NamedTuple

import torch

from labkit import __version__
from labkit.checkpoints import list_checkpoints, load
from labkit.files import data_dir
from labkit.kernels.gated_delta import choose_backend
from labkit.recipes import list_recipes, load_recipe

__all__ = ["Finding", "examine"]

WIDGETS = ("jupyterlab", "ipywidgets", "plotly", "anywidget")


class Finding(NamedTuple):
    """Whether something is well, and a sentence about it."""

    well: bool
    sentence: str


def examine() -> list[Finding]:
    """Look at versions, threads, widget packages, recipes and checkpoints."""
    return [*_versions(), _threads(), _kernels(), *_widgets(), *_data()]


def _versions() -> list[Finding]:
    cuda = "a CUDA device" if torch.cuda.is_available() else "no CUDA device, so everything runs on the CPU"
    muon = hasattr(torch.optim, "Muon")
    return [
        Finding(True, f"labkit {__version__} runs on Python {platform.python_version()}."),
        Finding(True, f"torch {torch.__version__} finds {cuda}."),
        Finding(
            muon, "torch has the optimiser Muon." if muon else "Training needs Muon, so torch 2.9 or newer."
        ),
    ]


def _threads() -> Finding:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    sentence = f"torch computes in {threads} of {cores} threads."
    if threads > cores:
        return Finding(False, f"{sentence} More threads than cores are slow; set OMP_NUM_THREADS={cores}.")
    return Finding(True, sentence)


def _kernels() -> Finding:
    tokens = torch.zeros(1, 64, 1, 16, device="cuda" if torch.cuda.is_available() else "cpu")
    backend, why = choose_backend(tokens, tokens)
    return Finding(True, f"The gated delta rule is computed by the form {backend!r}. {why}")


def _widgets() -> list[Finding]:
    findings = []
    for package in WIDGETS:
        try:
            findings.append(Finding(True, f"{package} {metadata.version(package)} is installed."))
        except metadata.PackageNotFoundError:
            findings.append(
                Finding(False, f"{package} is not installed, so notebooks have no sliders; run `make lab`.")
            )
    return findings


def _data() -> list[Finding]:
    """Every recipe is read and every checkpoint loaded, hash and all."""
    try:
        folder = data_dir()
    except FileNotFoundError as mistake:
        return [Finding(False, str(mistake))]
    findings = [Finding(True, f"Data lies in {folder}.")]
    for recipe in list_recipes():
        try:
            load_recipe(recipe)
        except ValueError as mistake:
            findings.append(Finding(False, str(mistake)))
    checkpoints = list_checkpoints()
    for name, seed in checkpoints:
        try:
            load(name, seed)
        except (ValueError, OSError) as mistake:
            findings.append(Finding(False, str(mistake)))
    broken = sum(not finding.well for finding in findings)
    findings.append(
        Finding(
            not broken,
            f"Of {len(list_recipes())} recipes and {len(checkpoints)} checkpoints {broken} are bad.",
        )
    )
    return findings
