//! Symbols of a model: what is known of quantities without a known value, and arithmetic that makes new ones.

use std::collections::HashMap;

use super::extent::{BATCH, Extent, Symbol, Term};

/// The symbols of a model.
#[derive(Debug)]
pub(super) struct Symbols {
    known: Vec<SymbolFacts>,
    made: HashMap<(Made, Extent, Extent), Symbol>,
    /// The lesser of a number and an extent, by the symbol that stands for it.
    lesser: HashMap<Symbol, (Extent, i64)>,
    /// Extents of requests for which alone the proof holds.
    required: HashMap<Symbol, i64>,
    /// Work that is left.
    work: usize,
}

/// Work of an analysis at most, in nodes, names and terms: a model may nest functions without end. The largest real models take a
/// tenth of it.
const MAX_WORK: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct SymbolFacts {
    of_batch: bool,
    is_nonnegative: bool,
    /// Not a fraction.
    is_whole: bool,
    /// An extent of a request, which is none that is empty.
    is_of_request: bool,
    /// Computed of extents of requests.
    follows_request: bool,
    /// Rest of a difference, which may be nothing.
    is_rest: bool,
}

impl SymbolFacts {
    /// An extent of which nothing else is known.
    const EXTENT: SymbolFacts = SymbolFacts {
        of_batch: false,
        is_nonnegative: true,
        is_whole: true,
        is_of_request: false,
        follows_request: false,
        is_rest: false,
    };

    const OF_REQUEST: SymbolFacts = SymbolFacts { is_of_request: true, follows_request: true, ..SymbolFacts::EXTENT };
}

/// Operation whose result has no polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Made {
    /// Quotient of whole numbers, rounded down.
    FloorDiv,
    /// Extent of two axes of which one is 1 or both are equal.
    Broadcast,
    Min,
    Max,
}

impl Symbols {
    pub(super) fn new() -> Self {
        Symbols {
            known: vec![SymbolFacts { of_batch: true, ..SymbolFacts::OF_REQUEST }],
            made: HashMap::new(),
            lesser: HashMap::new(),
            required: HashMap::new(),
            work: MAX_WORK,
        }
    }

    fn add_symbol(&mut self, facts: SymbolFacts) -> Symbol {
        let symbol = Symbol(self.known.len() as u32);
        self.known.push(facts);
        symbol
    }

    /// An unknown extent that all rows of a batch share.
    pub(super) fn extent(&mut self) -> Extent {
        Extent::symbol(self.add_symbol(SymbolFacts::EXTENT))
    }

    /// An extent that requests bring with them, and that all rows of a batch share.
    pub(super) fn request_extent(&mut self) -> Extent {
        Extent::symbol(self.add_symbol(SymbolFacts::OF_REQUEST))
    }

    /// The least that the value can be: requests with empty axes share no batch. `None` where it is not known.
    fn minimum(&self, extent: &Extent) -> Option<i64> {
        let least = |symbol: &Symbol| match self.known[symbol.0 as usize] {
            SymbolFacts { is_of_request: true, .. } => Some(1),
            SymbolFacts { is_nonnegative: true, .. } => Some(0),
            _ => None,
        };
        let term = |term: &Term| match (term.factors.as_slice(), term.coefficient) {
            ([], number) => Some(number),
            (_, ..0) => None,
            (factors, coefficient) => {
                factors.iter().map(least).try_fold(coefficient, |product, least| product.checked_mul(least?))
            }
        };
        match extent {
            Extent::Number(number) => Some(*number),
            Extent::Sum(terms) => terms.iter().map(term).try_fold(0_i64, |sum, least| sum.checked_add(least?)),
        }
    }

    /// True if the value is at least one, for certain.
    pub(super) fn is_positive(&self, extent: &Extent) -> bool {
        self.minimum(extent).is_some_and(|least| least > 0)
    }

    /// True if two extents are equal, if need be on the condition that an extent of the requests is one number: exporters write the
    /// extents of their example into reshapes.
    pub(super) fn require_equal(&mut self, first: &Extent, second: &Extent) -> bool {
        let (Extent::Sum(terms), Extent::Number(number)) = (match second {
            Extent::Number(_) => (first, second),
            Extent::Sum(_) => (second, first),
        }) else {
            return first == second;
        };
        let [Term { factors, coefficient }] = &**terms else { return false };
        let [symbol] = factors.as_slice() else { return false };
        let is_open = *symbol != BATCH && self.known[symbol.0 as usize].is_of_request;
        match number.checked_rem(*coefficient) {
            Some(0) if is_open && number / coefficient > 0 => {
                *self.required.entry(*symbol).or_insert(number / coefficient) == number / coefficient
            }
            _ => false,
        }
    }

    /// The number that an extent of the requests must be.
    pub(super) fn required(&self, extent: &Extent) -> Option<i64> {
        let Extent::Sum(terms) = extent else { return None };
        let [Term { factors, coefficient: 1 }] = &**terms else { return None };
        self.required.get(factors.first()?).copied().filter(|_| factors.len() == 1)
    }

    /// True if an extent can be a number that the model declares. One that follows from what requests bring can be any.
    pub(super) fn may_be(&self, extent: &Extent, number: i64) -> bool {
        match extent {
            Extent::Number(own) => *own == number,
            Extent::Sum(_) => !self.has(extent, |facts| facts.follows_request || facts.of_batch),
        }
    }

    /// True if what is left of a difference takes part, which may be nothing.
    pub(super) fn has_rest(&self, extent: &Extent) -> bool {
        self.has(extent, |facts| facts.is_rest)
    }

    /// True if a symbol of which that is so takes part.
    fn has(&self, extent: &Extent, is_so: impl Fn(&SymbolFacts) -> bool) -> bool {
        match extent {
            Extent::Number(_) => false,
            Extent::Sum(terms) => {
                terms.iter().flat_map(|term| &term.factors).any(|symbol| is_so(&self.known[symbol.0 as usize]))
            }
        }
    }

    /// An unknown element; `of_batch` where the number of rows may decide it.
    pub(super) fn element(&mut self, of_batch: bool) -> Extent {
        Extent::symbol(self.add_symbol(SymbolFacts {
            of_batch,
            is_nonnegative: false,
            is_whole: false,
            ..SymbolFacts::EXTENT
        }))
    }

    /// True if the number of rows takes part.
    pub(super) fn is_of_batch(&self, extent: &Extent) -> bool {
        self.has(extent, |facts| facts.of_batch)
    }

    /// Factor of the number of rows, where the extent is such a product.
    pub(super) fn per_row(&self, extent: &Extent) -> Option<Extent> {
        let quotient = extent.div_exact(&Extent::symbol(BATCH))?;
        (!self.is_of_batch(&quotient) && !extent.is_zero()).then_some(quotient)
    }

    /// Counts work.
    pub(super) fn work(&mut self, amount: usize) {
        self.work = self.work.saturating_sub(amount);
    }

    /// True if there has been too much work.
    pub(super) fn is_exhausted(&self) -> bool {
        self.work == 0
    }

    fn or_element(&mut self, known: Option<Extent>, of: [&Extent; 2]) -> Extent {
        known.unwrap_or_else(|| {
            let of_batch = of.iter().any(|extent| self.is_of_batch(extent));
            self.element(of_batch)
        })
    }

    pub(super) fn add(&mut self, first: &Extent, second: &Extent) -> Extent {
        self.work(first.size() * second.size());
        self.or_element(first.add(second), [first, second])
    }

    pub(super) fn sub(&mut self, first: &Extent, second: &Extent) -> Extent {
        self.work(first.size() * second.size());
        self.or_element(first.sub(second), [first, second])
    }

    pub(super) fn mul(&mut self, first: &Extent, second: &Extent) -> Extent {
        self.work(first.size() * second.size());
        self.or_element(first.mul(second), [first, second])
    }

    /// The product of extents.
    pub(super) fn product<'e>(&mut self, extents: impl IntoIterator<Item = &'e Extent>) -> Extent {
        extents.into_iter().fold(Extent::ONE, |product, extent| self.mul(&product, extent))
    }

    /// The symbol for the result of an operation: the same for the same operands.
    pub(super) fn made(&mut self, made: Made, first: &Extent, second: &Extent) -> Extent {
        let key = (made, first.clone(), second.clone());
        if let Some(symbol) = self.made.get(&key) {
            return Extent::symbol(*symbol);
        }
        let of_batch = self.is_of_batch(first) || self.is_of_batch(second);
        let is_nonnegative = self.is_nonnegative(first) && self.is_nonnegative(second);
        let is_whole = self.is_whole(first) && self.is_whole(second);
        let follows_request = [first, second].iter().any(|of| self.has(of, |facts| facts.follows_request));
        let is_rest = made == Made::Max || self.has_rest(first) || self.has_rest(second);
        let facts = SymbolFacts { of_batch, is_nonnegative, is_whole, follows_request, is_rest, ..SymbolFacts::EXTENT };
        let symbol = self.add_symbol(facts);
        if let (Made::Min, Extent::Number(number)) = (made, second) {
            self.lesser.insert(symbol, (first.clone(), *number));
        }
        self.made.insert(key, symbol);
        Extent::symbol(symbol)
    }

    /// The quotient, rounded down.
    pub(super) fn floor_div(&mut self, dividend: &Extent, divisor: &Extent) -> Extent {
        if let Some(exact) = dividend.div_exact(divisor) {
            return exact;
        }
        let Extent::Number(number @ 1..) = divisor else { return self.made(Made::FloorDiv, dividend, divisor) };
        // Terms that divide without a rest stand outside of the rounding.
        let (whole, rest): (Vec<Term>, Vec<Term>) =
            dividend.terms().into_iter().partition(|term| !term.factors.is_empty() && term.coefficient % number == 0);
        let whole = whole.into_iter().map(|term| Term { coefficient: term.coefficient / number, ..term }).collect();
        match (Extent::of_terms(whole), Extent::of_terms(rest)) {
            (Some(whole), Some(Extent::Number(rest))) => self.add(&whole, &Extent::Number(rest.div_euclid(*number))),
            (Some(whole), Some(rest)) => {
                let rounded = self.made(Made::FloorDiv, &rest, divisor);
                self.add(&whole, &rounded)
            }
            _ => self.made(Made::FloorDiv, dividend, divisor),
        }
    }

    /// The quotient, rounded up.
    pub(super) fn ceil_div(&mut self, dividend: &Extent, divisor: &Extent) -> Extent {
        let raised = self.add(dividend, divisor);
        let raised = self.sub(&raised, &Extent::ONE);
        self.floor_div(&raised, divisor)
    }

    /// The extent, or zero where it is negative.
    pub(super) fn or_zero(&mut self, extent: &Extent) -> Extent {
        match extent {
            Extent::Number(number) => Extent::Number((*number).max(0)),
            _ if self.is_nonnegative(extent) => extent.clone(),
            Extent::Sum(_) => {
                let symbol = self.made(Made::Max, extent, &Extent::ZERO);
                if let Extent::Sum(terms) = &symbol
                    && let [Term { factors, .. }] = &**terms
                {
                    self.known[factors[0].0 as usize].is_nonnegative = true;
                }
                symbol
            }
        }
    }

    /// The lesser of an extent and a number.
    pub(super) fn min(&mut self, extent: &Extent, number: i64) -> Extent {
        match extent.number() {
            Some(extent) => Extent::Number(extent.min(number)),
            None => self.made(Made::Min, extent, &Extent::Number(number)),
        }
    }

    /// True if an extent is the lesser of another and a number above 1.
    fn is_lesser_of(&self, lesser: &Extent, other: &Extent) -> bool {
        let Extent::Sum(terms) = lesser else { return false };
        let [Term { factors, coefficient: 1 }] = &**terms else { return false };
        let [symbol] = factors.as_slice() else { return false };
        self.lesser.get(symbol).is_some_and(|(of, number)| of == other && *number > 1)
    }

    /// Extent of an axis that two tensors share by broadcasting.
    pub(super) fn broadcast(&mut self, first: &Extent, second: &Extent) -> Extent {
        match (first, second) {
            // It is 1 only where the other is, too.
            _ if self.is_lesser_of(first, second) => second.clone(),
            _ if self.is_lesser_of(second, first) => first.clone(),
            _ if first == second => first.clone(),
            (Extent::Number(1), other) | (other, Extent::Number(1)) => other.clone(),
            // The other is 1, or the same number.
            (Extent::Number(_), _) => first.clone(),
            (_, Extent::Number(_)) => second.clone(),
            _ => self.made(Made::Broadcast, first, second),
        }
    }

    /// True if the value is at least zero, for certain.
    pub(super) fn is_nonnegative(&self, extent: &Extent) -> bool {
        self.minimum(extent).is_some_and(|least| least >= 0)
    }

    /// True if the value is no fraction, for certain.
    pub(super) fn is_whole(&self, extent: &Extent) -> bool {
        let is_whole = |symbol: &Symbol| self.known[symbol.0 as usize].is_whole;
        match extent {
            Extent::Number(_) => true,
            Extent::Sum(terms) => terms.iter().flat_map(|term| &term.factors).all(is_whole),
        }
    }

    /// Compares two values: `first` is less than `second`, is not, or that is not certain.
    pub(super) fn is_less(&self, first: &Extent, second: &Extent) -> Option<bool> {
        let above = second.sub(first)?;
        if self.is_nonnegative(&above.sub(&Extent::ONE)?) || self.is_whole(&above) && self.is_positive(&above) {
            return Some(true);
        }
        self.is_nonnegative(&first.sub(second)?).then_some(false)
    }

    /// Compares two values: they are equal, are not, or that is not certain.
    pub(super) fn are_equal(&self, first: &Extent, second: &Extent) -> Option<bool> {
        let differ = self.is_less(first, second) == Some(true) || self.is_less(second, first) == Some(true);
        if first == second { Some(true) } else { differ.then_some(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_polynomials() {
        let mut symbols = Symbols::new();
        let (batch, time) = (Extent::symbol(BATCH), symbols.extent());
        let number = Extent::Number;
        let tokens = batch.mul(&time).unwrap();
        let elements = tokens.mul(&number(768)).unwrap();
        assert_eq!(elements.div_exact(&batch.mul(&number(64)).unwrap()), time.mul(&number(12)));
        assert_eq!(elements.div_exact(&number(100)), None);
        let longer = time.add(&Extent::ONE).unwrap();
        assert_eq!(longer.mul(&batch).unwrap().div_exact(&longer), Some(batch.clone()));
        assert_eq!(longer.sub(&Extent::ONE), Some(time.clone()));
        assert_eq!(symbols.per_row(&tokens), Some(time.clone()));
        assert_eq!(symbols.per_row(&batch.mul(&batch).unwrap()), None);
        assert_eq!(symbols.per_row(&time), None);
        assert_eq!(number(i64::MAX).add(&number(1)), None);
    }

    #[test]
    fn quotients_are_rounded_the_same_way_each_time() {
        let mut symbols = Symbols::new();
        let width = symbols.extent();
        let number = Extent::Number;
        let twice = width.mul(&number(2)).unwrap();
        assert_eq!(symbols.floor_div(&twice.add(&number(1)).unwrap(), &number(2)), width);
        let half = symbols.floor_div(&width, &number(2));
        assert_eq!(symbols.floor_div(&width, &number(2)), half);
        let more = twice.add(&number(5)).unwrap();
        assert_eq!(symbols.floor_div(&more, &number(2)), width.add(&number(2)).unwrap());
        assert_eq!(symbols.floor_div(&number(-1), &number(2)), number(-1));
    }

    #[test]
    fn extents_of_an_example_become_conditions() {
        let mut symbols = Symbols::new();
        let (width, height, number) = (symbols.request_extent(), symbols.request_extent(), Extent::Number);
        let twice = width.mul(&number(2)).unwrap();
        assert!(symbols.require_equal(&twice, &number(10)) && symbols.require_equal(&number(5), &width));
        assert_eq!((symbols.required(&width), symbols.required(&height)), (Some(5), None));
        assert!(!symbols.require_equal(&width, &number(6)) && !symbols.require_equal(&twice, &number(11)));
        assert!(!symbols.require_equal(&width, &height) && symbols.require_equal(&height, &height));
        assert!(!symbols.require_equal(&Extent::symbol(BATCH), &number(3)));
    }

    #[test]
    fn comparisons_are_certain_or_none() {
        let mut symbols = Symbols::new();
        let (width, number) = (symbols.extent(), Extent::Number);
        assert_eq!(symbols.are_equal(&width, &number(-1)), Some(false));
        assert_eq!(symbols.are_equal(&width, &number(1)), None);
        assert_eq!(symbols.are_equal(&width, &width), Some(true));
        assert_eq!(symbols.is_less(&width, &width.add(&number(1)).unwrap()), Some(true));
        assert_eq!(symbols.is_less(&width, &number(0)), Some(false));
    }
}
