"""Reads one part of all events, fills a histogram of the mass, fits the peak, and leaves the histogram and a plot."""

import sys

import ROOT

ROOT.gROOT.SetBatch(True)
part, parts = int(sys.argv[1]), int(sys.argv[2])
tree = ROOT.TChain("events")
tree.Add("events/*.root")
share = tree.GetEntries() // parts
spectrum = ROOT.TH1D("mass", f"Muon pairs, part {part};mass [GeV];events", 60, 60.0, 120.0)
count = tree.GetEntries() - part * share if part == parts - 1 else share
tree.Draw("mass>>mass", "", "goff", count, part * share)
spectrum = ROOT.gDirectory.Get("mass")
fit = ROOT.TF1("fit", "gaus(0) + expo(3)", 70.0, 110.0)
fit.SetParameters(spectrum.GetMaximum(), 91.0, 3.0, 5.0, -0.02)
spectrum.Fit(fit, "QR")
canvas = ROOT.TCanvas("canvas", "", 800, 600)
spectrum.Draw("E")
canvas.SaveAs(f"part-{part}.png")
out = ROOT.TFile(f"part-{part}.root", "RECREATE")
spectrum.Write()
out.Close()
print(f"part {part}: {spectrum.GetEntries():.0f} events, mean {fit.GetParameter(1):.3f} GeV")
