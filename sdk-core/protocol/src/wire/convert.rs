//! Conversion between the generated messages and the model.
