"""The machine's load: probes, windows, regimes; synthetic and recorded load for trials."""
