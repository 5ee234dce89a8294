"""Reads one part of all events, fills a histogram of the pairs' mass, fits its peak, and leaves both and a plot."""

import pathlib
import sys

import awkward as ak
import hist
import numpy as np
import uproot
from iminuit import Minuit
from iminuit.cost import LeastSquares
from matplotlib.figure import Figure

part, parts = int(sys.argv[1]), int(sys.argv[2])
spectrum = hist.Hist(hist.axis.Regular(60, 60.0, 120.0, name="mass", label="mass [GeV]"))
for path in sorted(pathlib.Path("events").iterdir()):
    with uproot.open(path) as file:
        tree = file["events"]
        share = tree.num_entries // parts
        end = tree.num_entries if part == parts - 1 else (part + 1) * share
        muons = tree.arrays(["pt", "eta", "phi"], entry_start=part * share, entry_stop=end)
    pairs = muons[ak.num(muons.pt) == 2]
    apart = np.cosh(pairs.eta[:, 0] - pairs.eta[:, 1]) - np.cos(pairs.phi[:, 0] - pairs.phi[:, 1])
    spectrum.fill(np.sqrt(2.0 * pairs.pt[:, 0] * pairs.pt[:, 1] * apart))


def shape(mass: np.ndarray, height: float, mean: float, width: float, floor: float, slope: float) -> np.ndarray:
    """A peak on a falling background."""
    return height * np.exp(-0.5 * ((mass - mean) / width) ** 2) + floor * np.exp(-slope * (mass - 60.0))


centers, counts = spectrum.axes[0].centers, spectrum.values()
full = (counts > 0) & (centers > 70.0) & (centers < 110.0)
cost = LeastSquares(centers[full], counts[full], np.sqrt(counts[full]), shape)
fit = Minuit(cost, height=counts.max(), mean=91.0, width=3.0, floor=counts[0], slope=0.02)
fit.migrad()
picture = Figure(figsize=(8, 6))
axes = picture.add_subplot(xlabel="mass [GeV]", ylabel="events", title=f"Muon pairs, part {part}")
axes.errorbar(centers, counts, np.sqrt(counts), fmt=".")
axes.plot(centers[full], shape(centers[full], *fit.values))
picture.savefig(f"part-{part}.png")
with uproot.recreate(f"part-{part}.root") as file:
    file["mass"] = spectrum
print(f"part {part}: {spectrum.sum():.0f} events, mean {fit.values['mean']:.3f} GeV")
