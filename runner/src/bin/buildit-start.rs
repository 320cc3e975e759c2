//! `buildit-start PARTS PROGRAM [ARGUMENT…]`: unpacks PROGRAM from `PARTS/part-0`, `PARTS/part-1`, … and becomes it.
//!
//! A pod gets the runner from ConfigMaps, which hold no more than a mebibyte each and so only pieces of it, compressed.
//! That needs neither an image nor a container of its own, each of which would cost every pod a second and more.

use std::{
    convert::Infallible,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [parts, program, rest @ ..] = &arguments[..] else {
        eprintln!("usage: buildit-start PARTS PROGRAM [ARGUMENT...]");
        return ExitCode::from(2);
    };
    match become_program(Path::new(parts), Path::new(program), rest) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("buildit-start: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn become_program(parts: &Path, program: &Path, arguments: &[OsString]) -> io::Result<Infallible> {
    let mut packed: Box<dyn Read> = Box::new(io::empty());
    for number in 0.. {
        match File::open(parts.join(format!("part-{number}"))) {
            Ok(part) => packed = Box::new(packed.chain(part)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 0 => break,
            Err(error) => return Err(error),
        }
    }
    // What a restart of the container finds half written is written anew.
    let unfinished = program.with_extension("unfinished");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o755).open(&unfinished)?;
    // The stream ends with a checksum, which is compared.
    zstd::stream::copy_decode(packed, &mut file)?;
    drop(file);
    fs::rename(&unfinished, program)?;
    Err(Command::new(program).args(arguments).exec())
}
