"""DICOM files made for tests."""

import numpy as np
import pydicom
from pydicom import uid

SERIES = "1.2.826.0.1.3680043.8.498.1"
NORMAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def base_dataset(array, syntax=uid.ExplicitVRLittleEndian, sop_class=uid.MRImageStorage):
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    meta.ImplementationClassUID = uid.PYDICOM_IMPLEMENTATION_UID
    dataset = pydicom.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = SERIES
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "RETRO"]
    dataset.PatientName = "Heart^Test"
    dataset.Modality = "MR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = array.shape[-2:]
    bits = 8 * array.dtype.itemsize
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    pixels = array.astype(array.dtype.newbyteorder(order)).tobytes()
    vr = "OB" if bits == 8 else "OW"
    dataset.add_new("PixelData", vr, pixels + b"\0" * (len(pixels) % 2))
    return dataset


def single_frame(array, slice_index=0, phase_index=0, **options):
    dataset = base_dataset(array, **options)
    dataset.ImageOrientationPatient = NORMAL
    dataset.ImagePositionPatient = [-10.0, -20.0, 8.0 * slice_index]
    dataset.PixelSpacing = [1.5, 1.25]
    dataset.SliceThickness = 6.0
    dataset.TriggerTime = 40.0 * phase_index
    dataset.InstanceNumber = 100 * slice_index + phase_index
    dataset.RescaleSlope, dataset.RescaleIntercept = 2.0, -1.0
    return dataset


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=False)
    return path


def save_series(folder, voxels, **options):
    """Write voxels (slice, phase, row, column) as files whose names do not follow their order."""
    names = np.random.default_rng(9).permutation(voxels.shape[0] * voxels.shape[1])
    for slice_index, phases in enumerate(voxels):
        for phase_index, array in enumerate(phases):
            name = names[slice_index * len(phases) + phase_index]
            dataset = single_frame(array, slice_index, phase_index, **options)
            save(dataset, folder / f"IM{name:04d}.dcm")
    return folder


def item(**values):
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(voxels, syntax=uid.ExplicitVRLittleEndian):
    """Return an enhanced multi-frame data set, its frames slice by slice, last slice first."""
    slices, phases = voxels.shape[:2]
    order = [(s, p) for s in reversed(range(slices)) for p in range(phases)]
    array = np.stack([voxels[place] for place in order])
    dataset = base_dataset(array, syntax, uid.EnhancedMRImageStorage)
    dataset.NumberOfFrames = len(order)
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=NORMAL)],
        PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1.25], SliceThickness=6.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=2.0, RescaleIntercept=-1.0)],
        MRImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10.0, -20.0, 8.0 * s])],
            CardiacSynchronizationSequence=[item(NominalCardiacTriggerDelayTime=40.0 * p)],
        )
        for s, p in order
    ]
    return dataset
