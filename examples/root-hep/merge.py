"""Adds the histograms of all parts, fits the peak once more, and leaves the merged spectrum and its plot."""

import pathlib

import ROOT

ROOT.gROOT.SetBatch(True)
total = None
for path in sorted(pathlib.Path("parts").iterdir()):
    file = ROOT.TFile.Open(str(path))
    spectrum = file.Get("mass")
    spectrum.SetDirectory(ROOT.nullptr)
    if total is None:
        total = spectrum
    else:
        total.Add(spectrum)
    file.Close()
total.SetTitle("Muon pairs, all parts;mass [GeV];events")
fit = ROOT.TF1("fit", "gaus(0) + expo(3)", 70.0, 110.0)
fit.SetParameters(total.GetMaximum(), 91.0, 3.0, 5.0, -0.02)
total.Fit(fit, "QR")
ROOT.gStyle.SetOptFit(1)
canvas = ROOT.TCanvas("canvas", "", 900, 600)
total.Draw("E")
canvas.SaveAs("spectrum.png")
out = ROOT.TFile("spectrum.root", "RECREATE")
total.Write()
out.Close()
print(f"{total.GetEntries():.0f} events, Z mass {fit.GetParameter(1):.3f} +- {fit.GetParError(1):.3f} GeV")
