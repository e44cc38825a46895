"""One estimator per file: state of a request in, quality per expert out."""
