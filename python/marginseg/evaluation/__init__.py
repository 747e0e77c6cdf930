"""Which rule is best for a trained network: measured on labelled cases, fitted on the others."""
