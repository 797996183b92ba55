"""From a float network to exact integers: power-of-two scales, their choice, proof and tuning."""
