//! Runs every target of the fuzzer over the inputs that are kept in the tree: what was found once stays found.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::path::Path;

#[test]
fn every_input_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("no corpus for {name}: {error}"))
        {
            let path = entry.expect("a file").path();
            let data = std::fs::read(&path).expect("an input");
            // Its name is what one needs if the target panics.
            println!("{}", path.display());
            target(&data);
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs for {name}");
    }
}
