"""The advisor: from a node, a model and a length to ranked layouts with reasons. Pure: values in, values out."""
