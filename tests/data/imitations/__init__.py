"""Tiny imitations of data sets as people have them: pictures of blobs, and what each tool makes of their labels.

Each function writes a folder and returns what must be read from it: of each image, its true classes.
"""

from tests.data.imitations import layouts, masks, shapes

FORMS = {
    "masks of 0 and 255": masks.binary_255,
    "masks of 0 and 1": masks.binary_01,
    "masks with grey edges": masks.binary_grey_edges,
    "masks as JPEG": masks.binary_jpeg,
    "masks as colour JPEG, `_mask`": masks.binary_jpeg_rgb,
    "masks as GIF, each with its palette": masks.binary_gif,
    "masks of one bit": masks.binary_one_bit,
    "masks of 16 bits, 0 and 65535": masks.binary_16_bit,
    "masks with alpha (LA)": masks.binary_with_alpha,
    "masks with alpha (RGBA)": masks.binary_rgba,
    "masks in the alpha channel": masks.binary_in_alpha,
    "masks with a palette": masks.binary_palette,
    "masks of 0, 127, 255": masks.three_greys,
    "masks of 0, 127, 255 as JPEG": masks.three_greys_jpeg,
    "colours on black": masks.colours_on_black,
    "colours as JPEG": masks.colours_jpeg,
    "colours with class_dict.csv": masks.class_dict,
    "numbers, 255 for none, classes.txt in UTF-16": masks.ids_with_void,
    "img_001 and mask_001": layouts.names_at_the_start,
    "001_img and 001_mask in one folder": layouts.names_at_the_end,
    "names that differ in case and suffix": layouts.names_in_case,
    "001.ome.tif and 001_labels.png": layouts.names_ome,
    "001.png and 001_mask.png in one folder": layouts.names_twice,
    "Roboflow, semantic masks": layouts.roboflow_masks,
    "frames of five drives": layouts.sequences,
    "VOC2012": layouts.voc,
    "labels for some": layouts.half_labelled,
    "lists in CSV": layouts.csv_lists,
    "COCO JSON": shapes.coco,
    "Roboflow, COCO JSON": shapes.roboflow_coco,
    "YOLO segmentation": shapes.yolo,
    "labelme JSON": shapes.labelme,
    "CVAT XML": shapes.cvat,
    "Supervisely": shapes.supervisely,
}
