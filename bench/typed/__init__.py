"""What only columns can show: datasets, projections, tensors, and what a record costs."""
