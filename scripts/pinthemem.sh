# Sourced by the recipes of PinTheMem's code, which MLDG's numbers are of too: `pinthemem SOURCES METHOD
# arguments …`. Published: one GPU, 4 images of each domain, no class-uniform sampling, a rate of 0.01
# that falls by exp(-9 i / 120 000), and lengths that a table in its code sets, here in steps: 41
# epochs of 743 from GTAV and SYNTHIA, 31 from GTAV twice, 151 from GTAV, SYNTHIA and IDD (93 were
# meant: the table lists domains in another order than the script). All are below the 120 000 that
# the schedule is made for.
. "$(dirname "$0")/recipe.sh"

pinthemem() {
    sources=$1 method=${METHOD:-$2}
    shift 2
    case $sources in
        gtav_synthia) datasets="gtav synthia" images=8 steps=30463 ;;
        gtav_gtav) datasets="gtav gtav" images=8 steps=23033 ;;
        gtav_synthia_idd) datasets="gtav synthia idd" images=12 steps=112193 ;;
    esac
    dry_batch=$((images / 2))
    case $method in
        mldg | pinmem) name=$method ;;
        *)
            # Other recipes train it in another way, and it knows no parts of one source.
            name=pinthemem_$method
            [ "$sources" != gtav_gtav ] || datasets=gtav
            ;;
    esac
    # shellcheck disable=SC2086  # lists of words
    run train.py --dataset $datasets --val_dataset cityscapes bdd100k mapillary \
        --method "$method" --trunk resnet50 --exp "r50os16_${sources}_$name" \
        TRUNK.OUTPUT_STRIDE 16 DATASET.SAMPLING random TRAIN.SCHEDULE exp TRAIN.MAX_ITER "$steps" \
        TRAIN.BATCH_SIZE "$images" TRAIN.BATCH_PER_PROCESS "$images" \
        TRAIN.LR_ENCODER 0.01 TRAIN.LR_DECODER 0.01 TRANSFORM.CROP_SIZE 768,768 "$@"
}
