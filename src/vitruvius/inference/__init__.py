"""From a model to text: sampling, generation, and checks of what comes out."""
