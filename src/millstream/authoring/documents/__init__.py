"""Flow documents: flows that were drawn on a canvas and are kept as JSON. They name components, and hold no code."""
