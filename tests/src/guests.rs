//! Images and guests. An image is built once a test run; one guest with the generated model serves every test that
//! leaves it serving.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cloister_boot::manifest::Serving;
use cloister_client::{Client, Policy};
use cloister_tokens::origin::Issuer;
use xtask::guest_build::Environment;
use xtask::image_build::{self, Image, ImageInputs};
use xtask::models::ModelChoice;
use xtask::qemu::{
    Accelerator, EmulatedPlatform, Guest, GuestError, GuestOptions, Platform, Qemu, Stop,
};
use xtask::workspace::Workspace;

use crate::raw::{self, Answer};

/// No test waits longer for a guest that boots.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
/// No test waits longer for one answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// For guests on platform plain.
pub fn accept_unattested() -> Policy {
    Policy {
        accept_unattested: true,
        ..Policy::default()
    }
}

/// The checkout.
pub fn workspace() -> &'static Workspace {
    static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
    WORKSPACE.get_or_init(|| Workspace::find().expect("the tests run in the checkout"))
}

/// The emulator.
pub fn qemu() -> &'static Qemu {
    static QEMU: OnceLock<Qemu> = OnceLock::new();
    QEMU.get_or_init(|| Qemu::find_or_install().expect("QEMU is there or can be installed"))
}

/// The SNP platform in software, with the keys of this user.
pub fn emulated_platform() -> &'static EmulatedPlatform {
    static PLATFORM: OnceLock<EmulatedPlatform> = OnceLock::new();
    PLATFORM.get_or_init(|| {
        EmulatedPlatform::prepare(workspace()).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The image with the generated model.
pub fn fixture_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build("fixture"))
}

/// The image without a model.
pub fn empty_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build("none"))
}

/// The image with the smallest real model.
pub fn tiny_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build("tiny"))
}

/// The image with the generated model, TLS, and key epochs of 20 s.
pub fn tls_image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    let serving = Serving {
        tls: true,
        epoch_s: 20,
    };
    IMAGE.get_or_init(|| build_with("fixture", "tls", None, serving))
}

/// An image with the generated model that demands this issuer's tokens.
pub fn image_with_tokens(issuer: Issuer) -> Image {
    build_with("fixture", "tokens", Some(issuer), Serving::default())
}

/// The same with TLS.
pub fn image_with_tls_and_tokens(issuer: Issuer) -> Image {
    let serving = Serving {
        tls: true,
        ..Serving::default()
    };
    build_with("fixture", "tls-tokens", Some(issuer), serving)
}

fn build(model: &str) -> Image {
    build_with(model, model, None, Serving::default())
}

fn build_with(model: &str, name: &str, token_issuer: Option<Issuer>, serving: Serving) -> Image {
    // One build at a time: they share folders.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = lock(&BUILDING);
    let model: ModelChoice = model.parse().expect("a known model");
    let folder = workspace().cloister().join("test-images").join(name);
    let inputs = ImageInputs {
        model: &model,
        log_policy: None,
        token_issuer,
        serving,
        environment: Environment::of_this_process(),
    };
    image_build::build_from(workspace(), &inputs, &folder)
        .unwrap_or_else(|error| panic!("image {name}: {error}"))
}

/// How to boot an image in a test. Always emulated: what continuous integration has.
pub fn options(image: &Image) -> GuestOptions {
    image.guest_options(Platform::Plain(Accelerator::Tcg))
}

/// Boots and waits until it serves.
pub fn boot(options: &GuestOptions) -> Guest {
    let mut guest = Guest::start(qemu(), options).expect("QEMU starts");
    guest
        .wait_ready(BOOT_TIMEOUT)
        .unwrap_or_else(|error| panic!("{error}"));
    guest
}

/// Boots and waits until the guest stops itself; it must not serve before. Returns its last words.
pub fn boot_to_stop(options: &GuestOptions) -> Stop {
    let mut guest = Guest::start(qemu(), options).expect("QEMU starts");
    match guest.wait_ready(BOOT_TIMEOUT) {
        Err(GuestError::Stopped(stop)) => {
            let (said, status) = guest
                .wait_stopped(BOOT_TIMEOUT)
                .expect("QEMU ends with its guest");
            assert_eq!(said, stop);
            assert_eq!(
                status.code(),
                Some(i32::from(stop.code) * 2 + 1),
                "QEMU's exit status is the reason code"
            );
            stop
        }
        Err(other) => panic!("the guest should stop with a reason: {other}"),
        Ok(ready) => panic!("the guest should stop, but it serves: {ready:?}"),
    }
}

/// Guests with the generated model that many tests use, each guest by one test at a time.
pub struct Shared {
    free: Vec<Guest>,
    started: usize,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    free: Vec::new(),
    started: 0,
});
static RETURNED: Condvar = Condvar::new();

impl Shared {
    /// Each keeps a processor busy, and machines for tests may have no more than two.
    const GUESTS: usize = 2;

    /// A guest for one test alone, as soon as there is one. When the test ends, however it ends, the guest must serve on.
    pub fn lease() -> Lease {
        let shared = RETURNED.wait_while(lock(&SHARED), |shared| {
            shared.free.is_empty() && shared.started == Self::GUESTS
        });
        let mut shared = shared.unwrap_or_else(PoisonError::into_inner);
        let guest = shared.free.pop().unwrap_or_else(|| {
            let guest = boot(&options(fixture_image()));
            shared.started += 1;
            guest
        });
        Lease {
            guest: Leased(Some(guest)),
        }
    }
}

/// See [`Shared::lease`].
pub struct Lease {
    guest: Leased,
}

/// Goes back when it is dropped, whatever the test and the last look at the guest came to.
struct Leased(Option<Guest>);

impl Leased {
    fn get(&self) -> &Guest {
        self.0.as_ref().expect("it is taken out at the end only")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        lock(&SHARED).free.extend(self.0.take());
        RETURNED.notify_one();
    }
}

impl Lease {
    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.guest.get().port()
    }

    /// A client of the guest.
    pub fn client(&self) -> Client {
        client(&self.guest.get().url())
    }

    /// A figure of the guest's `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        metric(self.port(), name)
    }

    /// Waits until a figure of `/metrics` is as wanted. A guest with no free connection is asked again.
    pub fn wait_for_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = raw::get(self.port(), "/metrics");
            let found = (answer.status == 200).then(|| figure(&answer, name));
            if found.is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} stays at {found:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let guest = self.guest.0.as_mut().expect("it goes back after this");
        let said = guest.console().lines();
        assert!(guest.is_running(), "the guest ended: {said:?}");
        let answer = raw::get(guest.port(), "/healthz");
        assert_eq!(answer.status, 200, "the guest serves on after each test");
    }
}

/// A client of the guest at `url`.
pub fn client(url: &str) -> Client {
    Client::connect(url, ANSWER_TIMEOUT, accept_unattested())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A figure of the `/metrics` of the guest behind `port`.
pub fn metric(port: u16, name: &str) -> u64 {
    figure(&raw::get(port, "/metrics"), name)
}

fn figure(metrics: &Answer, name: &str) -> u64 {
    let text = metrics.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no figure {name} in:\n{text}"))
}

/// A copy of the image's model pack, changed by `change`, which is removed when dropped.
pub struct ChangedPack {
    path: PathBuf,
}

impl ChangedPack {
    /// Copies the pack of `image` and changes the copy.
    pub fn of(image: &Image, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let original = image.model_pack().expect("the image has a model");
        let mut bytes = std::fs::read(original).expect("the pack can be read");
        change(&mut bytes);
        let path = image.rom().with_file_name(format!("changed-{name}.pack"));
        std::fs::write(&path, bytes).expect("the copy can be written");
        Self { path }
    }

    /// The changed copy.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ChangedPack {
    fn drop(&mut self) {
        // What is left behind is overwritten by the next run.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed while it held the lock has said so itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
