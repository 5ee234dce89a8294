"""Makes one file of events: invariant masses of muon pairs, a Z boson's peak on a falling background."""

import sys
from array import array

import ROOT

number, events, signal = int(sys.argv[1]), int(sys.argv[2]), 0.6
file = ROOT.TFile(f"events-{number}.root", "RECREATE")
tree = ROOT.TTree("events", "Muon pairs")
mass = array("d", [0.0])
tree.Branch("mass", mass, "mass/D")
chance = ROOT.TRandom3(20261127 + number)
for _ in range(events):
    if chance.Rndm() < signal:
        mass[0] = chance.Gaus(91.19, 2.8)
    else:
        mass[0] = 60.0 + chance.Exp(40.0)
    tree.Fill()
tree.Write()
file.Close()
print(f"{events} events")
