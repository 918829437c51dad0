"""Uses a trained model: predict, evaluate and export, from a checkpoint alone."""
