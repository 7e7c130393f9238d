"""The whole idea at work: a camera of real photos, the nodes, a burst of load, and a report."""
