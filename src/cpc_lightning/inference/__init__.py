"""What a trained model is for: predict, evaluate and export, from a checkpoint alone."""
