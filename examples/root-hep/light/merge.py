"""Adds the histograms of all parts, fits the peak once more, and leaves the merged spectrum and its plot."""

import pathlib

import numpy as np
import uproot
from iminuit import Minuit
from iminuit.cost import LeastSquares
from matplotlib.figure import Figure

total = None
for path in sorted(pathlib.Path("parts").iterdir()):
    with uproot.open(path) as file:
        spectrum = file["mass"].to_hist()
    total = spectrum if total is None else total + spectrum


def shape(mass: np.ndarray, height: float, mean: float, width: float, floor: float, slope: float) -> np.ndarray:
    """A peak on a falling background."""
    return height * np.exp(-0.5 * ((mass - mean) / width) ** 2) + floor * np.exp(-slope * (mass - 60.0))


centers, counts = total.axes[0].centers, total.values()
full = (counts > 0) & (centers > 70.0) & (centers < 110.0)
cost = LeastSquares(centers[full], counts[full], np.sqrt(counts[full]), shape)
fit = Minuit(cost, height=counts.max(), mean=91.0, width=3.0, floor=counts[0], slope=0.02)
fit.migrad()
if not fit.valid:
    raise SystemExit("the fit did not converge")
picture = Figure(figsize=(9, 6))
axes = picture.add_subplot(xlabel="mass [GeV]", ylabel="events", title="Muon pairs, all parts")
axes.errorbar(centers, counts, np.sqrt(counts), fmt=".")
axes.plot(centers[full], shape(centers[full], *fit.values))
picture.savefig("spectrum.png")
with uproot.recreate("spectrum.root") as file:
    file["mass"] = total
print(f"{total.sum():.0f} events, Z mass {fit.values['mean']:.3f} +- {fit.errors['mean']:.3f} GeV")
