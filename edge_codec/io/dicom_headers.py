"""DICOM headers of voxels that are not the source's own: derived by loss, or new."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.valuerep import format_number_as_ds

from edge_codec.errors import SourceError
from edge_codec.io.dicom_file import join, parsing, serialize
from edge_codec.io.dicom_geometry import planes_of
from edge_codec.io.dicom_metadata import DicomHeader
from edge_codec.spec import SampleFormat, SourceKind, StreamSpec

METHOD = "EDGECODEC"  # PS3.3 C.7.6.1.1.5.1 has defined terms for standard methods only
_MAX_DESCRIPTION = 1024  # VR ST
_NEVER_TRUE_AGAIN = ("SmallestImagePixelValue", "LargestImagePixelValue")


class DerivedHeaders:
    """Marks the headers of a lossy stream: new identity, what happened; all else is kept.

    Parameters
    ----------
    spec : StreamSpec
        The stream.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream.
    """

    def __init__(self, spec: StreamSpec, lossy_ratio: float | None) -> None:
        self._spec = spec
        self._ratio = lossy_ratio
        self._series = uid.generate_uid()

    def derive(self, header: DicomHeader, voxels: NDArray[Any], n_frames: int) -> DicomHeader:
        """Return the marked header.

        Parameters
        ----------
        header : DicomHeader
            Header of the source.
        voxels : ndarray
            Decoded frame; of a multi-frame file any.
        n_frames : int
            Frames in the file.

        Raises
        ------
        SourceError
            If the header is damaged.
        """
        with parsing("the DICOM header in the stream"):
            dataset = join(header, n_frames * voxels.nbytes)
            _note_source(dataset)
            dataset.SOPInstanceUID = uid.generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.SeriesInstanceUID = self._series
            _mark_image_type(dataset)
            mark_lossy(dataset, self._spec, self._ratio)
            _update_extremes(dataset, voxels, n_frames)
            derived = serialize(dataset, n_frames * voxels.nbytes, header.name)
        return DicomHeader(
            derived.prefix, derived.suffix, derived.big_endian, header.name, header.frame_order
        )


class NewHeaders:
    """Makes MR Image Storage headers for a stream that was not made from DICOM.

    Parameters
    ----------
    spec : StreamSpec
        The stream.
    lossy_ratio : float, optional
        Bytes of the voxels over bytes of the stream.

    Attributes
    ----------
    dtype : numpy.dtype
        Pixel words: int16 or uint16, as MR Image Storage demands.

    Raises
    ------
    SourceError
        If the stream's values do not fit 16 bits.
    """

    def __init__(self, spec: StreamSpec, lossy_ratio: float | None) -> None:
        self._spec = spec
        self._ratio = lossy_ratio
        self.dtype = _word_dtype(spec)
        self._uids = {
            keyword: uid.generate_uid()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
        }
        self._planes = _planes(spec)
        self._now = datetime.datetime.now()

    def make(self, slice_index: int, phase_index: int) -> DicomHeader:
        """Return the header of one frame."""
        info = self._spec.info
        with parsing("the new DICOM header"):
            meta = pydicom.dataset.FileMetaDataset()
            meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = uid.MRImageStorage
            meta.MediaStorageSOPInstanceUID = uid.generate_uid()
            meta.ImplementationClassUID = uid.PYDICOM_IMPLEMENTATION_UID
            dataset = pydicom.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            dataset.SOPClassUID = meta.MediaStorageSOPClassUID
            dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
            self._add_patient_and_study(dataset)
            self._add_plane(dataset, slice_index)
            self._add_time(dataset, slice_index, phase_index)
            self._add_pixels(dataset)
            if not self._spec.lossless:
                mark_lossy(dataset, self._spec, self._ratio)
            size = info.rows * info.columns * self.dtype.itemsize
            return serialize(dataset, size, f"s{slice_index:03d}_p{phase_index:04d}.dcm")

    def _add_patient_and_study(self, dataset: pydicom.Dataset) -> None:
        for keyword, value in self._uids.items():
            setattr(dataset, keyword, value)
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        dataset.Modality = "MR"
        dataset.Manufacturer = "edge-codec"
        dataset.SeriesDescription = "edge-codec"
        dataset.SeriesNumber = 1
        dataset.ContentDate = self._now.strftime("%Y%m%d")
        dataset.ContentTime = self._now.strftime("%H%M%S")
        for keyword in (  # type 2: must be there, may be empty
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "ReferringPhysicianName",
            "PositionReferenceIndicator",
            "ScanOptions",
            "RepetitionTime",
            "EchoTime",
            "EchoTrainLength",
        ):
            setattr(dataset, keyword, None)
        dataset.ScanningSequence = "RM"  # research mode: nothing is known of the sequence
        dataset.SequenceVariant = "NONE"
        dataset.MRAcquisitionType = "2D"

    def _add_plane(self, dataset: pydicom.Dataset, slice_index: int) -> None:
        spacing = [value or 1.0 for value in self._spec.info.spacing_mm]
        orientation, origin, step = self._planes
        position = origin + slice_index * step
        normal = np.cross(orientation[:3], orientation[3:])
        dataset.SliceThickness = _decimal(spacing[0])
        dataset.SpacingBetweenSlices = _decimal(spacing[0])
        dataset.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[2])]
        dataset.ImageOrientationPatient = [_decimal(value) for value in orientation]
        dataset.ImagePositionPatient = [_decimal(value) for value in position]
        dataset.SliceLocation = _decimal(float(normal @ position))

    def _add_time(self, dataset: pydicom.Dataset, slice_index: int, phase_index: int) -> None:
        info = self._spec.info
        dataset.InstanceNumber = slice_index * info.n_phases + phase_index + 1
        dataset.TemporalPositionIdentifier = phase_index + 1
        dataset.NumberOfTemporalPositions = info.n_phases
        dataset.CardiacNumberOfImages = info.n_phases
        if info.trigger_time_ms:
            dataset.TriggerTime = _decimal(info.trigger_time_ms[phase_index])

    def _add_pixels(self, dataset: pydicom.Dataset) -> None:
        info = self._spec.info
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = info.rows, info.columns
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = int(self.dtype.kind == "i")
        dataset.WindowCenter = _decimal((self._spec.low + self._spec.high + 1) / 2)
        dataset.WindowWidth = _decimal(max(1, self._spec.high - self._spec.low))
        if (info.rescale_slope, info.rescale_intercept) != (1.0, 0.0):
            dataset.RescaleSlope = _decimal(info.rescale_slope)
            dataset.RescaleIntercept = _decimal(info.rescale_intercept)
            dataset.RescaleType = "US"


def mark_lossy(dataset: pydicom.Dataset, spec: StreamSpec, ratio: float | None) -> None:
    """Say in a data set that its pixels were compressed with loss, and how (PS3.3 C.7.6.1.1.5)."""
    bound = "no error bound"
    if spec.max_error is not None:
        bound = f"max error {spec.max_error} stored units"
    text = f"edge-codec: model {spec.model.label}, {bound}"
    before = str(dataset.get("DerivationDescription", None) or "")
    dataset.DerivationDescription = f"{before}; {text}"[-_MAX_DESCRIPTION:] if before else text
    dataset.LossyImageCompression = "01"
    methods = _values(dataset, "LossyImageCompressionMethod")
    dataset.LossyImageCompressionMethod = [*methods, METHOD]
    if ratio is not None:
        ratios = _values(dataset, "LossyImageCompressionRatio")
        dataset.LossyImageCompressionRatio = [*ratios, f"{ratio:.4g}"]


def _note_source(dataset: pydicom.Dataset) -> None:
    source = pydicom.Dataset()
    source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
    source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    dataset.SourceImageSequence = [*dataset.get("SourceImageSequence", []), source]


def _mark_image_type(dataset: pydicom.Dataset) -> None:
    """Mark the image and the frames of an enhanced image as derived."""
    shared = list(dataset.get("SharedFunctionalGroupsSequence", None) or ())
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence", None) or ())
    values = _values(dataset, "ImageType")
    # PS3.3 C.8.13.1.1.1: value 2 of an enhanced image is PRIMARY, always.
    is_enhanced = any(len(group) for group in shared + per_frame)
    head = ["DERIVED", "PRIMARY" if is_enhanced else "SECONDARY"]
    dataset.ImageType = [*head, *(values[2:] or ["OTHER"])]
    for group in shared + per_frame:
        for item in group.get("MRImageFrameTypeSequence", None) or ():
            item.FrameType = ["DERIVED", *_values(item, "FrameType")[1:]]


def _update_extremes(dataset: pydicom.Dataset, voxels: NDArray[Any], n_frames: int) -> None:
    """Keep the extreme pixel values true; of a multi-frame file they are not known yet."""
    for keyword, value in zip(_NEVER_TRUE_AGAIN, (voxels.min(), voxels.max()), strict=True):
        if keyword in dataset:
            if n_frames == 1 and voxels.dtype.itemsize <= 2:
                dataset[keyword].VR = "SS" if voxels.dtype.kind == "i" else "US"
                dataset[keyword].value = int(value)
            else:
                del dataset[keyword]


def _values(dataset: pydicom.Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword, None)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) else list(value)


def _word_dtype(spec: StreamSpec) -> np.dtype[Any]:
    if spec.info.sample_format is SampleFormat.FLOAT32_ORDERED:
        raise SourceError("float voxels do not fit DICOM's MR images; write .nii or .npy")
    for dtype in (np.dtype(np.int16), np.dtype(np.uint16)):
        bounds = np.iinfo(dtype)
        if spec.info.dtype.kind == "u" and dtype.kind == "i":
            continue
        if bounds.min <= spec.low and spec.high <= bounds.max:
            return dtype
    raise SourceError(
        f"voxels {spec.low}..{spec.high} do not fit the 16 bits of DICOM's MR images; write .nii "
        "or .npy"
    )


def _planes(
    spec: StreamSpec,
) -> tuple[list[float], NDArray[np.float64], NDArray[np.float64]]:
    """Return orientation, first position and step of the slices, from the NIfTI header if known."""
    info = spec.info
    if info.source.kind is SourceKind.NIFTI:
        # Here, since DICOM from npy must not need nibabel.
        from edge_codec.io.nifti_header import affine_of

        affine = affine_of(info.source.data)
        planes = None if affine is None else planes_of(affine)
        if planes is not None:
            return planes
    step = np.array([0.0, 0.0, info.spacing_mm[0] or 1.0])
    return [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], np.zeros(3), step


def _decimal(value: float) -> str:
    """Return a number in the 16 characters of VR DS."""
    return format_number_as_ds(float(value))
