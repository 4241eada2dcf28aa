//! `mezz serve`: a broker for a machine that somebody else started, by its serial port.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;

use clap::Args;
use rustix::fs::OFlags;
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};

use super::home::{self, Socket};
use super::{accept, begin, wait, watch_signals};
use crate::report::{Report, Reports};

/// Options of `mezz serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The board's serial port, such as /dev/ttyUSB0, or a Unix socket, such as QEMU's -serial unix:PATH,server
    #[arg(long, value_name = "PATH")]
    serial: PathBuf,
    /// Bits per second of a port
    #[arg(long, value_name = "RATE", default_value_t = 115_200)]
    baud: u32,
    /// What the machine is called from now on
    #[arg(long, value_name = "NAME", default_value = home::DEFAULT)]
    on: String,
}

/// The verb: stays until the line ends, or somebody ends it.
pub(crate) fn serve(args: &ServeArgs) -> Result<ExitCode, Reports> {
    let refused = |error: std::io::Error| {
        Report::new("E0538", format!("the serial line {} cannot be had: {error}", args.serial.display()))
            .help("name the port of a board, such as /dev/ttyUSB0, that you may use and nobody else does, or a Unix socket")
    };
    let socket = Socket::bind(&args.on)?;
    let (events, inbox) = mpsc::channel();
    watch_signals(&events).map_err(refused)?;
    let is_socket = std::fs::metadata(&args.serial).map_err(refused)?.file_type().is_socket();
    let hub = if is_socket {
        let stream = UnixStream::connect(&args.serial).map_err(refused)?;
        begin(&args.on, stream.try_clone().map_err(refused)?, stream, &events, true)
    } else {
        let port = open(&args.serial, args.baud).map_err(refused)?;
        begin(&args.on, port.try_clone().map_err(refused)?, port, &events, true)
    };
    let hub = hub.map_err(refused)?;
    accept(&hub, socket.listener.try_clone().map_err(refused)?);
    eprintln!(
        "mezz: {} leads {}; `mezz ps --on {2}` and the others reach it",
        args.serial.display(),
        args.on,
        args.on
    );
    let why = wait(&hub, &inbox, None, None);
    drop(socket);
    hub.end(&why);
    eprintln!("mezz: {}: {why}", args.on);
    Ok(ExitCode::SUCCESS)
}

/// A port with nothing between the wire and this program.
fn open(path: &Path, baud: u32) -> std::io::Result<File> {
    // Not this process's terminal, and no waiting for a modem's carrier.
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits();
    let port = OpenOptions::new().read(true).write(true).custom_flags(flags.cast_signed()).open(path)?;
    let mut modes = tcgetattr(&port)?;
    modes.make_raw();
    modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    modes.control_modes -= ControlModes::CRTSCTS | ControlModes::CSTOPB | ControlModes::PARENB;
    modes.set_speed(baud)?;
    tcsetattr(&port, OptionalActions::Now, &modes)?;
    let flags = rustix::fs::fcntl_getfl(&port)?;
    rustix::fs::fcntl_setfl(&port, flags - OFlags::NONBLOCK)?;
    Ok(port)
}
