"""From trained networks to the files of the zoo."""
