#!/bin/sh
# Obtains the real Keras 3 Xception trained on chest radiographs that the integration tests use.
#
# Source: the PyPI package pneumonia_model_package 0.3.0, which carries the model inside its wheel. The package
# names no licence, so the file is fetched at use into the git-ignored folder models/ and never shipped.
# Needs Python 3 with pip only. Safe to repeat: a file with the pinned hash is left alone.
#
# Result: models/pneumonia_xception.keras
#   Xception (include_top=False, saved at 150 x 150) -> GAP -> Dense(128, relu) -> Dropout(0.3) -> Dense(2, logits);
#   the two outputs are NORMAL and PNEUMONIA.
set -eu

package=pneumonia_model_package
version=0.3.0
member=pneumonia_model_package/trained_models/pneumonia_xception_model_val-acc_0.861.keras
wheel_sha256=4bb1ee80366db5de818c7255e62878871b8ec545681193f429e2575b791d3536
model_sha256=d7997cd1923f4d13538f02d64b6d5925e2f87a2a2db8036c074f795c41439e26

cd "$(dirname "$0")/.."
target=models/pneumonia_xception.keras
python="${PYTHON:-python3}"

sha256() {
    "$python" -c 'import hashlib, sys
print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest() if hasattr(hashlib, "file_digest")
      else hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

if [ -f "$target" ] && [ "$(sha256 "$target")" = "$model_sha256" ]; then
    echo "$model_sha256  $target (already there)"
    exit 0
fi

mkdir -p models/wheel
wheel=models/wheel/$package-$version-py3-none-any.whl
if [ ! -f "$wheel" ] || [ "$(sha256 "$wheel")" != "$wheel_sha256" ]; then
    rm -f "$wheel"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest models/wheel "$package==$version"
fi
found=$(sha256 "$wheel")
if [ "$found" != "$wheel_sha256" ]; then
    echo "fetch_xception: $wheel has sha256 $found, expected $wheel_sha256; delete it and look at the package" >&2
    exit 1
fi

"$python" - "$wheel" "$member" "$target.part" <<'PYTHON'
import shutil, sys, zipfile

wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON

found=$(sha256 "$target.part")
if [ "$found" != "$model_sha256" ]; then
    rm -f "$target.part"
    echo "fetch_xception: the model has sha256 $found, expected $model_sha256; nothing was stored" >&2
    exit 1
fi
mv "$target.part" "$target"
rm -f "$wheel" && rmdir models/wheel 2>/dev/null || true
echo "$model_sha256  $target"
