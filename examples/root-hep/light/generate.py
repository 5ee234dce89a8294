"""Makes one file of events: muons, in most events a pair, whose masses are a Z boson's peak on a falling background."""

import sys

import awkward as ak
import numpy as np
import uproot

number, events = int(sys.argv[1]), int(sys.argv[2])
chance = np.random.default_rng(20261127 + number)
mass = np.where(chance.random(events) < 0.6, chance.normal(91.19, 2.8, events), 60.0 + chance.exponential(40.0, events))
eta = chance.normal(0.0, 1.0, (events, 2))
phi = chance.uniform(-np.pi, 0.0, events)
# The muons of a pair have the same transverse momentum, in opposite directions: the one that makes this mass.
pt = mass / np.sqrt(2.0 * (np.cosh(eta[:, 0] - eta[:, 1]) + 1.0))
seen = np.ones((events, 2), dtype=bool)
seen[:, 1] = chance.random(events) < 0.9  # of some pairs the second one is lost
muons = {"pt": np.column_stack([pt, pt]), "eta": eta, "phi": np.column_stack([phi, phi + np.pi])}
with uproot.recreate(f"events-{number}.root") as file:
    tree = file.mktree("events", dict.fromkeys(muons, "var * float64"))
    tree.extend({name: ak.unflatten(values[seen], seen.sum(axis=1)) for name, values in muons.items()})
print(f"{events} events, {int(seen[:, 1].sum())} of them with two muons")
