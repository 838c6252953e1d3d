//! Items as lines of JSON.

use imaging::FlatMask;
use proptest::prelude::*;

use super::*;

/// A line of a dataset for ms-swift, which has to come out as it went in.
#[track_caller]
fn check_unchanged(line: &str) {
    let item: Item = serde_json::from_str(line).unwrap();
    let written = serde_json::to_string(&item).unwrap();
    assert_eq!(written, line);
}

#[track_caller]
fn check_refused(line: &str, expected: &str) {
    let error = serde_json::from_str::<Item>(line).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn pap_56_lines_of_ms_swift_are_read_and_written_unchanged() {
    for line in [
        r#"{"messages":[{"role":"user","content":"1+1?"},{"role":"assistant","content":"2"}]}"#,
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"<image><image>which?"},{"role":"assistant","content":"b"}],"images":["/a/1.jpg","b.png"]}"#,
        r#"{"messages":[{"role":"user","content":"<image>find <ref-object>"},{"role":"assistant","content":"<bbox><bbox>"}],"images":["1.png"],"objects":{"ref":["sheep"],"bbox":[[90.9,160.8,135,212.8],[360.9,480.8,495,532.8]]}}"#,
        r#"{"messages":[{"role":"user","content":"<image>open it"},{"role":"assistant","content":"click('<bbox>')"}],"images":["1.png"],"objects":{"ref":[],"bbox":[[615,226]]}}"#,
        r#"{"messages":[{"role":"user","content":"<image><image>where?"},{"role":"assistant","content":"<bbox>"}],"images":["1.png","2.png"],"objects":{"ref":["a"],"bbox":[[0.1,0.2,0.3,0.4]],"bbox_type":"norm1","image_id":[1]}}"#,
        r#"{"messages":[{"role":"user","content":"<image>分割肝脏"},{"role":"assistant","content":"好的，[SEG]肝脏。"}],"images":["1.png"],"masks":["m.png"]}"#,
        r#"{"messages":[{"role":"user","content":"<image>segment"},{"role":"assistant","content":"[SEG] and [SEG]"}],"images":["1.png"],"masks":[{"size":[2,2],"counts":"13"},{"size":[2,2],"counts":"04"}]}"#,
    ] {
        check_unchanged(line);
    }
}

#[test]
fn pap_56_the_other_forms_of_ms_swift_mean_the_same() {
    let plain: Item = serde_json::from_str(
        r#"{"messages":[{"role":"user","content":"<image>what?"},{"role":"assistant","content":"a"}],"images":["1.png"]}"#,
    )
    .unwrap();
    for line in [
        r#"{"messages":[{"role":"user","content":"what?"},{"role":"assistant","content":"a"}],"images":"1.png"}"#,
        r#"{"messages":[{"role":"user","content":"what?"},{"role":"assistant","content":"a"}],"image":["1.png"],"objects":null}"#,
        r#"{"messages":[{"role":"user","content":"<image>what?"},{"role":"assistant","content":"a"}],"images":[{"bytes":null,"path":"1.png"}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"image","image":"1.png"},{"type":"text","text":"what?"}]},{"role":"assistant","content":"a"}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"1.png"}},{"type":"text","text":"what?"}]},{"role":"assistant","content":[{"type":"text","text":"a"}]}]}"#,
    ] {
        assert_eq!(serde_json::from_str::<Item>(line).unwrap(), plain, "{line}");
    }
}

#[test]
fn pap_56_a_text_that_disagrees_with_its_item_is_refused_with_the_numbers() {
    let with = |content: &str, rest: &str| {
        format!(r#"{{"messages":[{{"role":"assistant","content":"{content}"}}]{rest}}}"#)
    };
    for (line, expected) in [
        (r#"{"messages":[]}"#.to_owned(), "needs messages"),
        (
            r#"{"messages":[{"role":"user","content":"hello"}]}"#.to_owned(),
            "a message of the assistant",
        ),
        (with("<image><image>", r#","images":["1"]"#), "2 x `<image>`, the item has 1"),
        (with("[SEG]", r#","images":["1"]"#), "1 x `[SEG]`, the item has 0"),
        (with("a", r#","images":["1"],"masks":["m"]"#), "0 x `[SEG]`, the item has 1"),
        (with("<bbox>", ""), "1 x `<bbox>`, the item has 0"),
        (
            with("<bbox><ref-object>", r#","images":["1"],"objects":{"bbox":[[1,2,3,4]]}"#),
            "1 x `<ref-object>`, the item has 0",
        ),
        (
            with("<bbox>", r#","images":["1"],"objects":{"bbox":[[1,2,3,4]],"image_id":[3]}"#),
            "picture 3 is named, the item has 1",
        ),
        (with("<bbox>", r#","objects":{"bbox":[[1,2,3]]}"#), "two numbers or four, not 3"),
        (with("a", r#","videos":["v.mp4"]"#), "unknown field `videos`"),
        (with("a", r#","images":[{"bytes":[1]}]"#), "by its path"),
        (with("a", r#","images":["1"],"image":"2""#), "`image` and as `images`"),
        (r#"{"messages":[{"role":"tool","content":"a"}]}"#.to_owned(), "unknown variant `tool`"),
    ] {
        check_refused(&line, expected);
    }
}

#[test]
fn pap_56_a_mask_picture_is_inside_wherever_it_is_not_black() {
    let picture = Picture::new(2, 2, vec![0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0, 0]).unwrap();
    assert_eq!(mask_of_picture(&picture).pixels, [false, true, true, false]);
}

proptest! {
    #[test]
    fn pap_55_a_mask_survives_its_line(
        (height, width) in (1_u32..20, 1_u32..20),
        seed in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let pixels: Vec<bool> = seed.into_iter().take((height * width) as usize).collect();
        let mask = FlatMask { height, width, pixels };
        let item = Item {
            messages: vec![Message::user("<image>segment"), Message::assistant("Sure, [SEG] it.")],
            images: vec!["1.png".to_owned()],
            masks: vec![ItemMask::of(&mask)],
            objects: Objects::default(),
        };
        let line = serde_json::to_string(&item).unwrap();
        let read: Item = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&read, &item);
        let ItemMask::Runs(runs) = &read.masks[0] else { unreachable!() };
        prop_assert_eq!(runs.mask().unwrap(), mask);
    }
}
