# Sourced by the train_*_didex_* recipes, step 2 of DIDEX: `didex NETWORK METHOD arguments …` adapts
# a network trained on GTAV to images without labels, which DATASET.TARGET names:
#   sh scripts/train_mitb5_gtav_didex_hrda.sh DATASET.TARGET /data/photos
# Published: 1 GPU, 2 source and 2 target images a step, 40 000 steps. Which sizes DIDEX itself reads
# its pseudo-target at is not published; these are the sizes of each method's own code.
requirements=requirements-extra.txt dry_scale=0.5
. "$(dirname "$0")/recipe.sh"

GPUS=${GPUS:-1}

didex() {
    network=$1 own=$2 method=${METHOD:-$2}
    shift 2
    source_box=1280,720 target_box=1024,512 crop=512,512 protocol=daformer
    case $own in
        hrda | mic) source_box=2560,1440 target_box=2048,1024 crop=1024,1024 protocol=hrda ;;
        sepico) target_box=1280,640 crop=640,640 protocol=sepico ;;
    esac
    # What other methods in their place do not know.
    case $method in
        dacs | daformer | hrda | mic | sepico)
            # Whole images of GTAV's shape; the crop is chosen on the device.
            [ "$method" != sepico ] || set -- TARGET.CROP_SIZE 640,1164 "$@"
            [ "$method $network" != "sepico mitb5" ] ||
                set -- CONTRAST.LAYERS 1,2,3,4 CONTRAST.HIDDEN 256 "$@"
            set -- TARGET.BOX "$target_box" "$@"
            if [ "${DRY_RUN:-0}" = 1 ]; then
                set -- "$@" DATASET.TARGET "${MINIATURE:-data/miniature_dry}/PseudoTarget" \
                    TARGET.CROP_SIZE 64,128 TARGET.BOX 0,0 TRANSFORM.BOX 0,0
            fi
            ;;
    esac
    case $network in
        r101dlv2) set -- --trunk resnet101 --decoder deeplabv2 TRUNK.OUTPUT_STRIDE 8 "$@" ;;
        mitb5) set -- --trunk mit_b5 --decoder daformer "$@" ;;
    esac
    name=${network}_gtav_didex_$own
    [ "$method" = "$own" ] || name=${name}_$method
    run train.py --dataset gtav --val_dataset cityscapes bdd100k mapillary \
        --method "$method" --exp "$name" VALID.PROTOCOL "$protocol" \
        TRANSFORM.BOX "$source_box" TRANSFORM.CROP_SIZE "$crop" TRANSFORM.SCALE 1,1 \
        TRANSFORM.MAX_CLASS_SHARE 0.75 TRANSFORM.JITTER_PROBABILITY 0 TRANSFORM.BLUR_PROBABILITY 0 \
        TRAIN.OPTIMIZER adamw TRAIN.LR_ENCODER 6e-5 TRAIN.LR_DECODER 6e-4 \
        TRAIN.WEIGHT_DECAY 0.01 TRAIN.POLY_POWER 1 TRAIN.WARMUP 1500 TRAIN.MAX_ITER 40000 \
        TRAIN.BATCH_SIZE 2 TRAIN.BATCH_PER_PROCESS 2 "$@"
}
