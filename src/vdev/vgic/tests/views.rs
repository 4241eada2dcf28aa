//! What each vCPU knows, where it does not look as soon as it is called.
//!
//! A write of a register takes effect at another PE in finite time (IHI 0069, 12.1.2). Here that is when the
//! vCPU looks: what it did until then with what it had listed came first, and then all writes in their order. So
//! a vCPU that lags is judged by the model as it was when it last looked, its [`View`]; and what all see of an
//! interrupt that it acts on is that view's state with the writes since done over again.

use super::model::Model;
use super::random::Run;
use super::vm::vcpu;
use std::rc::Rc;

/// Something that happens to interrupts by no act of the vCPU that has them.
type Change = Rc<dyn Fn(&mut Model)>;

/// The model as one vCPU knows it.
pub(super) struct View {
    pub(super) model: Model,
    /// What happened since.
    log: Vec<Change>,
    stale: bool,
}

impl Run {
    /// From here on vCPUs lag.
    pub(super) fn lag(&mut self) {
        self.vm.lagging = true;
        let view = |_| View { model: self.model.clone(), log: Vec::new(), stale: false };
        self.views = (0..self.guest.setup.vcpus).map(view).collect();
    }

    /// They look at once again.
    pub(super) fn catch_up(&mut self) {
        self.vm.lagging = false;
        self.vm.settle();
        self.views.clear();
        self.after_step();
    }

    /// Registers are written, lines move, SGIs come.
    pub(super) fn change(&mut self, change: impl Fn(&mut Model) + 'static) {
        change(&mut self.model);
        if !self.views.is_empty() {
            self.note(Rc::new(change));
        }
    }

    /// The same for what has been done to the model already.
    pub(super) fn note(&mut self, change: Change) {
        for view in &mut self.views {
            view.log.push(change.clone());
            view.stale = true;
        }
    }

    /// Who has nothing to look at knows everything.
    pub(super) fn refresh(&mut self) {
        self.take_raised();
        for n in 0..self.views.len() {
            if self.views[n].stale && !self.vm.vgic.attention(vcpu(n)) {
                self.views[n] = View { model: self.known(n), log: Vec::new(), stale: false };
            }
        }
    }

    /// The model as vCPU `n` knows it.
    pub(super) fn view(&self, n: usize) -> Model {
        let Some(view) = self.views.get(n) else { return self.model.clone() };
        let mut model = view.model.clone();
        model.cpus[n] = self.model.cpus[n].clone();
        model
    }

    /// The model as vCPU `n` knows it if it looks now: what another still has listed, and has been called for,
    /// it may get or not.
    fn known(&self, n: usize) -> Model {
        let mut model = self.model.clone();
        let spis = self.vm.vgic.spis.lock();
        for interrupt in &mut model.spis {
            let (bank, lane) = (interrupt.intid as usize / 32 - 1, interrupt.intid % 32);
            let here = &spis.banks[bank];
            let holder = usize::from(here.home(lane));
            if here.bank.listed >> lane & 1 != 0 && holder != n && self.vm.vgic.attention(vcpu(holder)) {
                interrupt.targets |= 1 << holder;
            }
        }
        model
    }

    /// vCPU `n` does something to an interrupt: of what it has in a list register, by what it knows of it.
    pub(super) fn act<R>(
        &mut self,
        n: usize,
        intid: u32,
        listed: bool,
        act: impl FnOnce(&mut Model) -> R,
    ) -> R {
        self.views.iter_mut().for_each(|view| view.stale = true);
        let Some(view) = self.views.get_mut(n).filter(|_| listed) else {
            let result = act(&mut self.model);
            self.refresh();
            return result;
        };
        view.model.cpus[n] = self.model.cpus[n].clone();
        let result = act(&mut view.model);
        self.model.cpus[n] = view.model.cpus[n].clone();
        let mut now = view.model.clone();
        view.log.iter().for_each(|change| change(&mut now));
        let now = now.get(n, intid).clone();
        let known = self.model.get(n, intid);
        (known.latch, known.sources) = (now.latch, now.sources);
        (known.active, known.linked) = (now.active, now.linked);
        self.refresh();
        result
    }

    /// Whether vCPU `n` has what IAR gave as `id` active in a list register.
    pub(super) fn has_active(&self, n: usize, id: u32) -> bool {
        self.vm.cpus[n].lr.iter().any(|&entry| entry >> 63 != 0 && entry as u32 & 0x1fff == id)
    }

    /// Whether anybody might take interrupt `intid` of `owner` who does not know of a write to it yet.
    pub(super) fn may_be_taken(views: &[View], owner: usize, intid: u32) -> bool {
        let pends = |view: &View| {
            let all = if intid < 32 { &view.model.private[owner] } else { &view.model.spis };
            all.iter().any(|i| i.intid == intid && i.pending())
        };
        views.iter().any(|view| view.stale && pends(view))
    }
}
