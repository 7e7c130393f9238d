"""Does the promise hold: miss rates and accuracy of policies under real load, live or replayed."""
