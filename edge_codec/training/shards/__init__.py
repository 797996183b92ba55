"""Cine exams as tar files to train from: conversion of ACDC folders, checking, and reading.

`info_cfg` and `patient` read and validate one patient, `sample` turns a slice into files of a tar
archive and back, `index` describes a folder of shards, `convert` makes one, `check` verifies it and
`reading` streams it to a training. Nothing here needs PyTorch. docs/data.md gives the format.
"""
