use super::*;

/// A table of visits with a line in it.
fn with(line: &str) -> String {
    format!("version = 1\n[visits]\nrow = \"PV1\"\ncolumns = [\n  {line}\n]\n")
}

#[test]
fn a_mistake_in_a_mapping_is_named_with_its_line_and_column() {
    let line = |line: &str| with(line);
    let good = "{ name = \"a\", from = \"PV1-2.1\", source = \"x\" }";
    assert_eq!(Mapping::read(&line(good)).map(|it| it.columns(Table::Visits).len()), Ok(4));
    for (text, expected) in [
        (line("{ name = \"a\", from = \"PV1-99.1\", source = \"x\" }"), "line 5, column 25: PV1 has 54 fields"),
        (line("{ name = \"a\", from = \"PV1-2 else PX1-2\", source = \"x\" }"), "line 5, column 36: there is no such segment"),
        (
            line("{ name = \"a\", from = \"PV1-0\", source = \"x\" }"),
            "line 5, column 25: a place is written PID-3, PID-3.4 or PID-3.4.1",
        ),
        (line("{ name = \"a\", source = \"x\" }"), "line 5, column 12: a column has one of `from`, `place_of` and `derived`"),
        (
            line("{ name = \"A\", from = \"PV1-2\", source = \"x\" }"),
            "line 5, column 12: a name is a lower-case letter, then lower-case letters, digits and `_`",
        ),
        (line("{ name = \"source\", from = \"PV1-2\", source = \"x\" }"), "line 5, column 12: there is another column `source`"),
        (line(&format!("{good}, {good}")), "line 5, column 60: there is another column `a`"),
        (
            line("{ name = \"a\", from = \"PV1-2\", source = \" \" }"),
            "line 5, column 42: a source says where the standard defines the column",
        ),
        (line("{ name = \"a\", derived = \"number\", source = \"x\" }"), "line 5, column 27: it needs rows of each OBX-5"),
        (line("{ name = \"a\", derived = \"no\", source = \"x\" }"), "line 5, column 27: nothing of this name is derived"),
        (
            line("{ name = \"a\", place_of = \"b\", source = \"x\" }"),
            "line 5, column 28: no column above it with this name has places",
        ),
        ("version = 2\n".to_owned(), "line 1, column 11: only version 1 of the format is known"),
    ] {
        assert_eq!(Mapping::read(&text).unwrap_err().to_string(), expected, "{text}");
    }
    // What TOML says of a form that is none, at its place.
    for (text, place, word) in [
        (line("{ name = \"a\", form = \"PV1-2\", source = \"x\" }"), (5, 17), "unknown field `form`"),
        ("version = 1\n[visit]\n".to_owned(), (2, 2), "unknown field `visit`"),
        ("version = 1\n[visits\n".to_owned(), (2, 8), "table"),
    ] {
        let mistake = Mapping::read(&text).unwrap_err();
        assert!(mistake.what.contains(word), "{mistake}");
        assert_eq!((mistake.line, mistake.column), place, "{mistake}");
    }
}

#[test]
fn every_place_of_the_standard_mapping_is_one_of_hl7_2_5_1_and_has_a_source() {
    let dictionary = Dictionary::exactly("2.5.1").unwrap();
    let mapping = Mapping::standard().unwrap();
    let mut seen = 0;
    for (table, definition) in &mapping.tables {
        for column in &definition.columns {
            assert!(column.source.contains('§') || column.source.starts_with("which"), "{table}: {}", column.name);
            let Origin::Places { places, .. } = &column.origin else { continue };
            for place in places {
                let field = dictionary.segment(&place.segment).and_then(|it| it.field(place.field));
                let field = field.unwrap_or_else(|| panic!("{table}: {place:?}"));
                if let Some(component) = place.component.filter(|it| *it > 1) {
                    let data_type = field.data_type.as_deref();
                    let has_it = field.varies || data_type.is_some_and(|it| it.component(component).is_some());
                    assert!(has_it, "{table}: {place:?}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen}");
}
