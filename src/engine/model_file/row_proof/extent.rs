//! Extents and elements of shapes as polynomials: of the number of rows in a batch, and of extents that all rows of a batch share.

use smallvec::SmallVec;
use std::{cmp::Ordering, rc::Rc};

/// A polynomial with integer coefficients over [`Symbol`]s. Equal polynomials are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// A number.
    Number(i64),
    /// At least one term with a symbol; the largest comes first, none is zero.
    Sum(Rc<[Term]>),
}

/// A product of symbols and a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Term {
    /// In ascending order, repeated for powers; none for the number alone.
    pub factors: SmallVec<[Symbol; 4]>,
    pub coefficient: i64,
}

/// A quantity without a known value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Symbol(pub u32);

/// The number of rows in a batch.
pub(super) const BATCH: Symbol = Symbol(0);

/// Terms of a polynomial at most. A larger one becomes a symbol.
const MAX_TERMS: usize = 16;

/// Factors of a term at most.
const MAX_DEGREE: usize = 16;

impl Term {
    pub(super) fn number(coefficient: i64) -> Self {
        Term { factors: SmallVec::new(), coefficient }
    }

    /// Graded lexicographic order, which multiplication keeps.
    fn order(&self, other: &Term) -> Ordering {
        self.factors.len().cmp(&other.factors.len()).then_with(|| other.factors.cmp(&self.factors))
    }

    fn times(&self, other: &Term) -> Option<Term> {
        let mut factors = self.factors.clone();
        factors.extend_from_slice(&other.factors);
        factors.sort_unstable();
        let coefficient = self.coefficient.checked_mul(other.coefficient)?;
        (factors.len() <= MAX_DEGREE).then_some(Term { factors, coefficient })
    }

    /// The term that gives this one when it is multiplied by `divisor`.
    fn over(&self, divisor: &Term) -> Option<Term> {
        let mut factors = self.factors.clone();
        for factor in &divisor.factors {
            factors.remove(factors.iter().position(|other| other == factor)?);
        }
        let exact = divisor.coefficient != 0 && self.coefficient.checked_rem(divisor.coefficient)? == 0;
        exact.then(|| Term { factors, coefficient: self.coefficient / divisor.coefficient })
    }
}

impl Extent {
    pub(super) const ONE: Extent = Extent::Number(1);
    pub(super) const ZERO: Extent = Extent::Number(0);

    /// The value of a symbol.
    pub(super) fn symbol(symbol: Symbol) -> Self {
        Extent::Sum([Term { factors: SmallVec::from_slice(&[symbol]), coefficient: 1 }].into())
    }

    /// The number, where it is one.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Extent::Number(number) => Some(*number),
            Extent::Sum(_) => None,
        }
    }

    pub(super) fn is_one(&self) -> bool {
        *self == Extent::ONE
    }

    pub(super) fn is_zero(&self) -> bool {
        *self == Extent::ZERO
    }

    /// Number of terms.
    pub(super) fn size(&self) -> usize {
        match self {
            Extent::Number(_) => 1,
            Extent::Sum(terms) => terms.len(),
        }
    }

    /// True if a type holds the value without a rounding or an overflow, whatever the extents are that a machine can hold.
    pub(super) fn is_exact(&self, largest: i64, max_degree: usize) -> bool {
        let fits =
            |term: &Term| term.coefficient.unsigned_abs() <= largest.unsigned_abs() && term.factors.len() <= max_degree;
        match self {
            Extent::Number(_) => true,
            Extent::Sum(terms) => terms.iter().all(fits),
        }
    }

    pub(super) fn terms(&self) -> Vec<Term> {
        match self {
            Extent::Number(0) => Vec::new(),
            Extent::Number(number) => vec![Term::number(*number)],
            Extent::Sum(terms) => terms.to_vec(),
        }
    }

    /// The sum of terms; `None` where it is too large.
    pub(super) fn of_terms(mut terms: Vec<Term>) -> Option<Self> {
        terms.sort_by(|first, second| second.order(first));
        let mut merged: Vec<Term> = Vec::with_capacity(terms.len());
        for term in terms {
            match merged.last_mut() {
                Some(last) if last.factors == term.factors => {
                    last.coefficient = last.coefficient.checked_add(term.coefficient)?;
                }
                _ => merged.push(term),
            }
        }
        merged.retain(|term| term.coefficient != 0);
        match merged.as_slice() {
            [] => Some(Extent::ZERO),
            [term] if term.factors.is_empty() => Some(Extent::Number(term.coefficient)),
            terms if terms.len() > MAX_TERMS => None,
            terms => Some(Extent::Sum(terms.into())),
        }
    }

    pub(super) fn add(&self, other: &Extent) -> Option<Extent> {
        if let (Extent::Number(first), Extent::Number(second)) = (self, other) {
            return first.checked_add(*second).map(Extent::Number);
        }
        let mut terms = self.terms();
        terms.extend(other.terms());
        Extent::of_terms(terms)
    }

    pub(super) fn sub(&self, other: &Extent) -> Option<Extent> {
        self.add(&other.mul(&Extent::Number(-1))?)
    }

    pub(super) fn mul(&self, other: &Extent) -> Option<Extent> {
        match (self, other) {
            (Extent::Number(first), Extent::Number(second)) => first.checked_mul(*second).map(Extent::Number),
            (Extent::Number(1), extent) | (extent, Extent::Number(1)) => Some(extent.clone()),
            _ => {
                let (first, second) = (self.terms(), other.terms());
                let products = first.iter().flat_map(|term| second.iter().map(|other| term.times(other)));
                Extent::of_terms(products.collect::<Option<_>>()?)
            }
        }
    }

    /// The extent that gives this one when it is multiplied by `divisor`, where there is one.
    pub(super) fn div_exact(&self, divisor: &Extent) -> Option<Extent> {
        match (self, divisor) {
            (_, Extent::Number(0)) => return None,
            (_, Extent::Number(1)) => return Some(self.clone()),
            (Extent::Number(first), Extent::Number(second)) => {
                return (first.checked_rem(*second)? == 0).then(|| Extent::Number(first / second));
            }
            _ if self == divisor => return Some(Extent::ONE),
            _ => {}
        }
        let (mut rest, mut quotient) = (self.clone(), Vec::new());
        let leading = divisor.terms().into_iter().next()?;
        while !rest.is_zero() {
            let term = rest.terms().into_iter().next()?.over(&leading)?;
            rest = rest.sub(&Extent::of_terms(vec![term.clone()])?.mul(divisor)?)?;
            quotient.push(term);
            if quotient.len() > MAX_TERMS {
                return None;
            }
        }
        Extent::of_terms(quotient)
    }
}
