#!/usr/bin/env python3
"""Reference values for DICOM: tables and windows from pydicom, compressed streams from imagecodecs.

Writes crates/chestnut/tests/oracle_dicom.json. `cases`: made-up stored values after pydicom's apply_modality_lut,
apply_windowing and apply_voi_lut, for all three window functions, tables, signed values, rescale and
MONOCHROME1 (inverted here, because pydicom leaves that to the caller). `streams`: a made-up picture of 32 x 32
as libjpeg-turbo, OpenJPEG, OpenJPH, CharLS and libjxl compress it, and as they read it back. Needs numpy,
pydicom 3 and imagecodecs; run it only when the steps change:

    python scripts/oracle_dicom.py
"""

import json
import pathlib

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence

SIDE = 32
OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/chestnut/tests/oracle_dicom.json"


def stored(bits, signed):
    """The same values as `cells` in crates/chestnut/src/image/dicom/tests.rs, in the low `bits` of a cell."""
    i = np.arange(SIDE * SIDE)
    v = (i * 37 + i // SIDE * 101) % 2**bits
    return np.where(v >= 2 ** (bits - 1), v - 2**bits, v) if signed else v


def table(first, entries, bits):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return item


def case(name, bits, signed=False, photometric="MONOCHROME2", rescale=None, modality=None, window=None, voi=None):
    """`modality` and `voi` are (first, entries, bits); `window` is (centre, width, function)."""
    ds = Dataset()
    ds.BitsStored, ds.BitsAllocated, ds.PixelRepresentation = bits, 16, int(signed)
    ds.PhotometricInterpretation = photometric
    full = 2**bits - 1
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + full
    if rescale:
        ds.RescaleSlope, ds.RescaleIntercept = rescale
        low, high = low * rescale[0] + rescale[1], high * rescale[0] + rescale[1]
    if modality:
        ds.ModalityLUTSequence = Sequence([table(*modality)])
        low, high, full = 0, 2 ** modality[2] - 1, 2 ** modality[2] - 1
    values = np.asarray(apply_modality_lut(stored(bits, signed), ds), dtype=np.float64)
    if window:
        ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = window
    if voi:
        ds.VOILUTSequence = Sequence([table(*voi)])
        values = np.asarray(apply_voi_lut(values.astype(np.int64), ds, prefer_lut=True), dtype=np.float64)
        full = 2 ** voi[2] - 1
    elif window:
        # pydicom's output range follows the modality values; ours is always 0 to 2^bits - 1.
        values = (apply_windowing(values, ds) - low) / (high - low) * full
    if photometric == "MONOCHROME1":
        values = full - values
    return {
        "name": name,
        "bits": bits,
        "signed": signed,
        "photometric": photometric,
        "rescale": rescale,
        "modality": modality,
        "window": window,
        "table": voi,
        "voi": "lut-or-window" if voi else "window" if window else "none",
        # Every 16th value; nine digits name a single-precision number.
        "expected": [float(f"{v:.9g}") for v in values[::16]],
    }


def streams():
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    deep = ((x * 60 + y * 67) % 4096).astype(np.uint16)
    signed = deep.astype(np.int16) - 1000
    # Without the jumps of the others, which lossy codecs smear.
    smooth = (x * 70 + y * 55 + 100).astype(np.uint16)
    shallow = (smooth >> 4).astype(np.uint8)
    j2k = {"codecformat": "j2k", "reversible": True, "level": 0}
    lossy_j2k = {"codecformat": "j2k", "reversible": False, "level": 50, "bitspersample": 12}
    jpeg = imagecodecs.jpeg8_encode(shallow, level=90)

    def stream(name, syntax, bits, data, values, exact=True):
        return {
            "name": name,
            "syntax": f"1.2.840.10008.1.2.{syntax}",
            "bits": bits,
            "signed": bool(values.min() < 0),
            "exact": exact,
            "hex": bytes(data).hex(),
            "expected": [int(v) for v in values.ravel()[::16]],
        }

    xl = imagecodecs.jpegxl_encode(smooth, lossless=False, distance=0.5, bitspersample=12)
    lossy = imagecodecs.jpeg2k_encode(smooth, **lossy_j2k)
    recompressed = imagecodecs.jpegxl_encode_jpeg(jpeg)
    return [
        stream("JPEG baseline", "4.50", 8, jpeg, imagecodecs.jpeg8_decode(jpeg), False),
        stream("JPEG lossless, 12 bits", "4.57", 12, imagecodecs.ljpeg_encode(deep, bitspersample=12), deep),
        stream("JPEG-LS", "4.80", 12, imagecodecs.jpegls_encode(deep), deep),
        stream("JPEG 2000, 12 bits", "4.90", 12, imagecodecs.jpeg2k_encode(deep, bitspersample=12, **j2k), deep),
        stream("JPEG 2000, signed", "4.90", 16, imagecodecs.jpeg2k_encode(signed, **j2k), signed),
        stream("JPEG 2000, lossy", "4.91", 12, lossy, imagecodecs.jpeg2k_decode(lossy), False),
        stream("HTJ2K", "4.201", 16, imagecodecs.htj2k_encode(deep), deep),
        stream("JPEG XL, 12 bits", "4.110", 12, imagecodecs.jpegxl_encode(deep, lossless=True, bitspersample=12), deep),
        stream("JPEG XL, lossy", "4.112", 12, xl, imagecodecs.jpegxl_decode(xl), False),
        stream("JPEG XL, recompressed", "4.111", 8, recompressed, imagecodecs.jpeg8_decode(jpeg), False),
    ]


def main():
    curve = [int(4095 * (i / 255) ** 0.5) for i in range(256)]
    # pydicom's modality tables have 8 or 16 bits.
    deep = [int(65535 * (i / 255) ** 0.5) for i in range(256)]
    cases = [
        case("linear window", 12, window=(2000, 1500, "LINEAR")),
        case("exact window", 12, window=(2000.5, 1500, "LINEAR_EXACT")),
        case("sigmoid window", 12, window=(1800, 900, "SIGMOID")),
        case("width 1", 12, window=(2048, 1, "LINEAR")),
        case("window and MONOCHROME1", 10, photometric="MONOCHROME1", window=(511, 600, "LINEAR")),
        case("signed, rescale", 12, signed=True, rescale=(0.5, -24)),
        case("signed, rescale, window", 12, signed=True, rescale=(2, 1024), window=(1200, 3000, "LINEAR")),
        case("modality table", 8, modality=(20, deep[:200], 16)),
        case("modality table and MONOCHROME1", 8, photometric="MONOCHROME1", modality=(20, deep[:200], 16)),
        case("modality table and window", 8, modality=(0, deep, 16), window=(40000, 32000, "LINEAR")),
        case("signed modality table", 8, signed=True, modality=(-100, deep[:220], 16)),
        case("VOI table", 8, voi=(10, curve[:230], 12)),
        case("VOI table before a window", 8, photometric="MONOCHROME1", window=(5, 9, "LINEAR"), voi=(0, curve, 12)),
        case("VOI table after rescale", 8, rescale=(1, -50), voi=(-50, curve, 12)),
    ]
    versions = f"numpy {np.__version__}, pydicom {pydicom.__version__}, imagecodecs {imagecodecs.__version__}"
    oracle = {"made_by": f"scripts/oracle_dicom.py, {versions}", "cases": cases, "streams": streams()}
    OUT.write_text(json.dumps(oracle, separators=(",", ":")))
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
