"""From a float network to exact integers: frames, scales, proof, sensitivity, gate, tuning."""
