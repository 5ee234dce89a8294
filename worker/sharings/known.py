"""Applications and libraries that need no more than their name to be shared: how each is asked for its version.

Owns the table alone: a row says what is asked, what that prints, where that is told, and which programs jobs may run.
Nothing in it is shared before the volunteer declares it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["application", "library"]

HYPERVISORS: Final = ("qemu", "virtualbox", "mock")
"""Names that are the hypervisors' own: a host that shares one is sent machines."""


@dataclass(frozen=True, slots=True)
class Known:
    """One row.

    Attributes:
        name: What the sharing is called.
        kind: An application has programs that jobs may run; a library is there for what they bring.
        prints: An example of what it says of its version.
        source: Where that is told.
        command: Asks for its version; the first word is found on the path.
        python: The Python module that it is; it is imported by `python3`.
        pkg_config: Its name for pkg-config.
        programs: What jobs may run, by names on the path; those that are not there are left out.
        pattern: Where in what is printed the version stands; None for the first that looks like one.
    """

    name: str
    kind: Kind
    prints: str
    source: str
    command: tuple[str, ...] = ()
    python: str = ""
    pkg_config: str = ""
    programs: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None


def _application(name: str, command: str, prints: str, source: str, *programs: str, pattern: str = "") -> Known:
    where = re.compile(pattern) if pattern else None
    return Known(
        name, "application", prints, source, tuple(command.split()), programs=programs or (name,), pattern=where
    )


def _config(name: str, command: str, prints: str, source: str, *programs: str) -> Known:
    return Known(name, "library", prints, source, tuple(command.split()), programs=programs)


def _package(name: str, prints: str, source: str) -> Known:
    return Known(name, "library", prints, source, pkg_config=name)


def _module(name: str, prints: str, source: str, module: str = "") -> Known:
    return Known(name, "library", prints, source, python=module or name)


_GNU: Final = "GNU Coding Standards, section 4.8.1: --version"
_PKG_CONFIG: Final = "pkg-config(1): --modversion"
_PEP: Final = "PEP 396 and importlib.metadata"

KNOWN: Final[dict[str, Known]] = {
    row.name: row
    for row in (
        _application("python3", "python3 --version", "Python 3.11.2", "Python's manual: Command line, --version"),
        _application(
            "root",
            "root-config --version",
            "6.30/04",
            "ROOT's manual: root-config; releases before 6.32 have a slash",
            *("root", "root.exe", "rootcling", "hadd"),
        ),
        _application(
            "gcc",
            "gcc -dumpfullversion -dumpversion",
            "12.2.0",
            "GCC's manual: Developer Options",
            *("gcc", "g++", "cpp"),
        ),
        _application("gfortran", "gfortran -dumpfullversion -dumpversion", "12.2.0", "GCC's manual: Developer Options"),
        _application("clang", "clang --version", "Debian clang version 14.0.6", "clang(1)", "clang", "clang++"),
        _application("make", "make --version", "GNU Make 4.3\nBuilt for x86_64-pc-linux-gnu", _GNU),
        _application("cmake", "cmake --version", "cmake version 3.25.1", "cmake(1)", "cmake", "ctest"),
        _application(
            "java",
            "java -version",
            'openjdk version "17.0.9" 2023-10-17',
            "java(1); what -version prints goes to the standard error",
            pattern=r'version "([^"\s]{1,64})"',
        ),
        _application(
            "perl",
            "perl -v",
            "This is perl 5, version 36, subversion 0 (v5.36.0) built for x86_64-linux-gnu-thread-multi",
            "perlrun(1)",
            pattern=r"\(v([\d.]{1,64})\)",
        ),
        _application(
            "R", "R --version", 'R version 4.2.2 Patched (2022-11-10 r83305) -- "Trusting"', "R(1)", "R", "Rscript"
        ),
        _application("octave", "octave-cli --version", "GNU Octave, version 7.3.0", _GNU, "octave", "octave-cli"),
        _application("julia", "julia --version", "julia version 1.9.3", "Julia's manual: Command-line Interface"),
        _application("podman", "podman --version", "podman version 4.3.1", "podman-version(1)"),
        _application("apptainer", "apptainer --version", "apptainer version 1.2.5", "apptainer(1)"),
        _config(
            "geant4", "geant4-config --version", "11.2.0", "Geant4's installation guide: geant4-config", "geant4-config"
        ),
        _config(
            "lhapdf", "lhapdf-config --version", "6.5.4", "LHAPDF's manual: lhapdf-config", "lhapdf", "lhapdf-config"
        ),
        _config("pythia8", "pythia8-config --version", "8.310", "PYTHIA's manual: pythia8-config"),
        _config("fastjet", "fastjet-config --version", "3.4.2", "FastJet's manual: fastjet-config"),
        _config("hepmc3", "HepMC3-config --version", "3.02.06", "HepMC3's manual: HepMC3-config"),
        _package("gsl", "2.7.1", _PKG_CONFIG),
        _package("fftw3", "3.3.10", _PKG_CONFIG),
        _package("eigen3", "3.4.0", _PKG_CONFIG),
        _module("numpy", "1.24.2", _PEP),
        _module("scipy", "1.10.1", _PEP),
        _module("uproot", "5.3.1", _PEP),
        _module("pyroot", "6.30/04", "ROOT's manual: PyROOT, ROOT.__version__", "ROOT"),
    )
}
