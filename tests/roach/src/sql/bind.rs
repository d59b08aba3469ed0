//! Resolves the names and types of expressions.

use sqlparser::ast::{self, BinaryOperator, UnaryOperator, Value};

use super::cast::interval;
use super::expr::{Expr, Operator};
use super::function;
use super::plan::{Aggregate, AggregateKind, Select};
use super::value::{Datum, Type};
use crate::catalog::{Schema, Table};
use crate::errors::SqlError;

use std::sync::Arc;

/// A column that expressions can name.
#[derive(Debug, Clone)]
pub(super) struct ScopeColumn {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) hidden: bool,
}

/// The columns that expressions can name, in the order of the row's values.
pub(super) type Scope = Vec<ScopeColumn>;

/// What expressions over groups may use.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The grouped expressions and their types.
    pub(super) keys: Vec<(ast::Expr, Type)>,
    pub(super) aggregates: Vec<Aggregate>,
}

/// Resolves one statement.
pub(super) struct Binder<'a> {
    pub(super) schema: Schema<'a>,
    pub(super) parameters: Vec<Option<Type>>,
    pub(super) subqueries: Vec<Select>,
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) scope: Scope,
    pub(super) groups: Option<Groups>,
}

/// An expression and its type.
pub(super) type Typed = (Expr, Type);

impl<'a> Binder<'a> {
    pub(super) fn new(schema: Schema<'a>, parameters: Vec<Option<Type>>) -> Self {
        Self {
            schema,
            parameters,
            subqueries: Vec::new(),
            tables: Vec::new(),
            scope: Scope::new(),
            groups: None,
        }
    }

    /// Resolves an expression of which the type is known from outside.
    pub(super) fn expect(&mut self, expr: &ast::Expr, ty: Type) -> Result<Expr, SqlError> {
        let (bound, found) = self.bind(expr)?;
        if let (Expr::Parameter(index), Type::Unknown) = (&bound, found) {
            self.parameters[*index] = Some(ty);
        }
        Ok(bound)
    }

    pub(super) fn bind(&mut self, expr: &ast::Expr) -> Result<Typed, SqlError> {
        if let Some(found) = self.group_key(expr) {
            return Ok(found);
        }
        match expr {
            ast::Expr::Nested(inner) => self.bind(inner),
            ast::Expr::Value(value) => self.value(&value.value),
            ast::Expr::Prefixed { value, .. } => self.bind(value),
            ast::Expr::Identifier(name) => self.column(None, name),
            ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., table, name] => self.column(Some(table), name),
                _ => Err(SqlError::unsupported(expr)),
            },
            ast::Expr::BinaryOp { left, op, right } => self.operation(left, op, right),
            ast::Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            ast::Expr::Cast { expr, data_type, .. } => self.cast(expr, type_of(data_type)?),
            ast::Expr::TypedString(typed) => {
                let text = typed.value.value.clone().into_string().unwrap_or_default();
                Ok((
                    Expr::Constant(Datum::Text(text).cast(type_of(&typed.data_type)?)?),
                    type_of(&typed.data_type)?,
                ))
            }
            ast::Expr::Interval(literal) => self.interval(literal),
            ast::Expr::IsNull(inner) => Ok((self.null_test(inner)?, Type::Bool)),
            ast::Expr::IsNotNull(inner) => Ok((Expr::Not(Box::new(self.null_test(inner)?)), Type::Bool)),
            ast::Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            ast::Expr::Between { expr, negated, low, high } => self.between(expr, low, high, *negated),
            ast::Expr::Like { negated, expr, pattern, .. } => {
                let (left, right) = (self.bind(expr)?.0, self.expect(pattern, Type::Text)?);
                Ok((inverted(Expr::Binary(Operator::Like, left.into(), right.into()), *negated), Type::Bool))
            }
            ast::Expr::InSubquery { expr, subquery, negated } => {
                let inner = Box::new(self.bind(expr)?.0);
                let (query, _) = self.subquery(subquery)?;
                Ok((inverted(Expr::InQuery(inner, query), *negated), Type::Bool))
            }
            ast::Expr::Exists { subquery, negated } => {
                let (query, _) = self.subquery(subquery)?;
                Ok((inverted(Expr::Exists(query), *negated), Type::Bool))
            }
            ast::Expr::Subquery(subquery) => {
                let (query, ty) = self.subquery(subquery)?;
                Ok((Expr::Scalar(query), ty))
            }
            ast::Expr::Case { operand: None, conditions, else_result, .. } => {
                self.case(conditions, else_result.as_deref())
            }
            ast::Expr::Array(array) => {
                let items =
                    array.elem.iter().map(|item| Ok(self.bind(item)?.0)).collect::<Result<_, SqlError>>()?;
                Ok((Expr::Array(items), Type::IntArray))
            }
            ast::Expr::Function(call) => self.function(call),
            other => Err(SqlError::unsupported(other)),
        }
    }

    fn group_key(&self, expr: &ast::Expr) -> Option<Typed> {
        let groups = self.groups.as_ref()?;
        let index = groups.keys.iter().position(|(key, _)| key == expr)?;
        Some((Expr::Column(index), groups.keys[index].1))
    }

    fn value(&mut self, value: &Value) -> Result<Typed, SqlError> {
        let (datum, ty) = match value {
            Value::Number(text, _) => match text.parse() {
                Ok(number) => (Datum::Int(number), Type::Int),
                Err(_) => (Datum::Text(text.clone()).cast(Type::Decimal)?, Type::Decimal),
            },
            Value::Boolean(value) => (Datum::Bool(*value), Type::Bool),
            Value::Null => (Datum::Null, Type::Unknown),
            Value::SingleQuotedByteStringLiteral(text) => (Datum::Bytes(escaped_bytes(text)), Type::Bytes),
            Value::Placeholder(name) => return self.placeholder(name),
            other => match other.clone().into_string() {
                Some(text) => (Datum::Text(text), Type::Text),
                None => return Err(SqlError::unsupported(other)),
            },
        };
        Ok((Expr::Constant(datum), ty))
    }

    fn placeholder(&mut self, name: &str) -> Result<Typed, SqlError> {
        let number: usize = name.trim_start_matches('$').parse().unwrap_or(0);
        let index = number.checked_sub(1).ok_or_else(|| SqlError::unsupported(name))?;
        if self.parameters.len() <= index {
            self.parameters.resize(index + 1, None);
        }
        Ok((Expr::Parameter(index), self.parameters[index].unwrap_or(Type::Unknown)))
    }

    fn column(&mut self, table: Option<&ast::Ident>, name: &ast::Ident) -> Result<Typed, SqlError> {
        let (table, name) = (table.map(fold), fold(name));
        let matches =
            |column: &&ScopeColumn| column.name == name && table.as_ref().is_none_or(|t| *t == column.table);
        if let Some(column) = self.scope.iter().find(matches) {
            if self.groups.is_some() {
                let message = format!(
                    "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
                );
                return Err(SqlError::new("42803", message));
            }
            let index = self.scope.iter().position(|other| std::ptr::eq(other, column)).unwrap_or_default();
            return Ok((Expr::Column(index), column.ty));
        }
        match function::find(&name).filter(|function| table.is_none() && is_bare(function.name)) {
            Some(function) => Ok((Expr::Call(function, Vec::new()), function.result)),
            None => Err(SqlError::unknown_column(&name)),
        }
    }

    fn operation(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
    ) -> Result<Typed, SqlError> {
        let operator = operator(op).ok_or_else(|| SqlError::unsupported(op))?;
        let (mut left, left_type) = self.bind(left)?;
        let (mut right, right_type) = self.bind(right)?;
        self.settle(&mut left, left_type, right_type)?;
        self.settle(&mut right, right_type, left_type)?;
        let ty = match operator {
            Operator::Add | Operator::Subtract if left_type == Type::Timestamp => Type::Timestamp,
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Modulo => {
                if Type::Decimal == left_type || Type::Decimal == right_type {
                    Type::Decimal
                } else {
                    Type::Int
                }
            }
            Operator::Divide => Type::Decimal,
            Operator::Concat => Type::Text,
            _ => Type::Bool,
        };
        Ok((Expr::Binary(operator, left.into(), right.into()), ty))
    }

    /// Gives a parameter without a type, or a text constant, the type of what it stands beside.
    fn settle(&mut self, expr: &mut Expr, own: Type, other: Type) -> Result<(), SqlError> {
        match expr {
            Expr::Parameter(index) if own == Type::Unknown && other != Type::Unknown => {
                self.parameters[*index] = Some(other);
            }
            Expr::Constant(datum @ Datum::Text(_))
                if !matches!(other, Type::Text | Type::Unknown | Type::Timestamp) =>
            {
                *datum = datum.clone().cast(other)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn unary(&mut self, op: UnaryOperator, inner: &ast::Expr) -> Result<Typed, SqlError> {
        let (inner, ty) = self.bind(inner)?;
        match op {
            UnaryOperator::Not => Ok((Expr::Not(inner.into()), Type::Bool)),
            UnaryOperator::Minus => Ok((Expr::Negative(inner.into()), ty)),
            UnaryOperator::Plus => Ok((inner, ty)),
            other => Err(SqlError::unsupported(other)),
        }
    }

    fn cast(&mut self, inner: &ast::Expr, ty: Type) -> Result<Typed, SqlError> {
        let inner = self.expect(inner, ty)?;
        Ok((Expr::Cast(inner.into(), ty), ty))
    }

    fn interval(&mut self, literal: &ast::Interval) -> Result<Typed, SqlError> {
        match self.bind(&literal.value)? {
            (Expr::Constant(Datum::Text(text)), _) => {
                let unit = literal
                    .leading_field
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default()
                    .to_lowercase();
                let length =
                    interval(&format!("{text} {unit}")).ok_or_else(|| SqlError::unsupported(literal))?;
                Ok((Expr::Constant(Datum::Interval(length)), Type::Interval))
            }
            _ => Err(SqlError::unsupported(literal)),
        }
    }

    fn null_test(&mut self, inner: &ast::Expr) -> Result<Expr, SqlError> {
        Ok(Expr::IsNull(Box::new(self.bind(inner)?.0)))
    }

    fn in_list(&mut self, expr: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Typed, SqlError> {
        let (inner, ty) = self.bind(expr)?;
        let mut items = Vec::new();
        for item in list {
            let (mut item, own) = self.bind(item)?;
            self.settle(&mut item, own, ty)?;
            items.push(item);
        }
        Ok((inverted(Expr::InList(inner.into(), items), negated), Type::Bool))
    }

    fn between(
        &mut self,
        expr: &ast::Expr,
        low: &ast::Expr,
        high: &ast::Expr,
        negated: bool,
    ) -> Result<Typed, SqlError> {
        let (above, _) = self.operation(expr, &BinaryOperator::GtEq, low)?;
        let (below, _) = self.operation(expr, &BinaryOperator::LtEq, high)?;
        Ok((inverted(Expr::Binary(Operator::And, above.into(), below.into()), negated), Type::Bool))
    }

    fn case(&mut self, arms: &[ast::CaseWhen], otherwise: Option<&ast::Expr>) -> Result<Typed, SqlError> {
        let mut bound = Vec::new();
        let mut ty = Type::Unknown;
        for arm in arms {
            let (result, found) = self.bind(&arm.result)?;
            ty = if ty == Type::Unknown { found } else { ty };
            bound.push((self.expect(&arm.condition, Type::Bool)?, result));
        }
        let otherwise = otherwise.map(|expr| self.expect(expr, ty).map(Box::new)).transpose()?;
        Ok((Expr::Case(bound, otherwise), ty))
    }

    fn function(&mut self, call: &ast::Function) -> Result<Typed, SqlError> {
        let name = call.name.to_string().to_lowercase();
        let arguments = arguments(call)?;
        if let Some(kind) = AggregateKind::of(&name) {
            return self.aggregate(kind, call, &arguments);
        }
        match (name.as_str(), arguments.as_slice()) {
            ("if", [condition, yes, no]) => {
                let condition = self.expect(condition, Type::Bool)?;
                let (yes, ty) = self.bind(yes)?;
                let no = self.expect(no, ty)?;
                return Ok((Expr::Case(vec![(condition, yes)], Some(no.into())), ty));
            }
            ("coalesce" | "ifnull", _) => {
                let bound = arguments.iter().map(|expr| self.bind(expr)).collect::<Result<Vec<_>, _>>()?;
                let ty =
                    bound.iter().map(|(_, ty)| *ty).find(|ty| *ty != Type::Unknown).unwrap_or(Type::Unknown);
                return Ok((Expr::Coalesce(bound.into_iter().map(|(expr, _)| expr).collect()), ty));
            }
            _ => {}
        }
        let function = function::find(&name)
            .ok_or_else(|| SqlError::new("42883", format!("unknown function: {name}()")))?;
        let bound = arguments.iter().map(|expr| self.bind(expr)).collect::<Result<Vec<_>, _>>()?;
        let first = bound.first().map_or(Type::Unknown, |(_, ty)| *ty);
        let result = if function.result == Type::Unknown { first } else { function.result };
        Ok((Expr::Call(function, bound.into_iter().map(|(expr, _)| expr).collect()), result))
    }

    fn aggregate(
        &mut self,
        kind: AggregateKind,
        call: &ast::Function,
        arguments: &[&ast::Expr],
    ) -> Result<Typed, SqlError> {
        let groups = self
            .groups
            .take()
            .ok_or_else(|| SqlError::new("42803", "aggregate functions are not allowed here"))?;
        let argument = arguments.first().map(|expr| self.bind(expr)).transpose();
        self.groups = Some(groups);
        let argument = argument?;
        let of = argument.as_ref().map_or(Type::Int, |(_, ty)| *ty);
        let ty = match kind {
            AggregateKind::Count => Type::Int,
            AggregateKind::Sum | AggregateKind::Avg => Type::Decimal,
            AggregateKind::Min | AggregateKind::Max => of,
        };
        let distinct = match &call.args {
            ast::FunctionArguments::List(list) => {
                list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct)
            }
            _ => false,
        };
        let groups = self.groups.as_mut().ok_or_else(|| SqlError::unsupported(call))?;
        groups.aggregates.push(Aggregate { kind, argument: argument.map(|(expr, _)| expr), distinct });
        Ok((Expr::Column(groups.keys.len() + groups.aggregates.len() - 1), ty))
    }

    fn subquery(&mut self, query: &ast::Query) -> Result<(usize, Type), SqlError> {
        let scope = std::mem::take(&mut self.scope);
        let groups = self.groups.take();
        let planned = self.query(query, None);
        self.scope = scope;
        self.groups = groups;
        let (select, columns) = planned?;
        self.subqueries.push(select);
        Ok((self.subqueries.len() - 1, columns.first().map_or(Type::Unknown, |column| column.ty)))
    }
}

fn inverted(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}

/// Functions that are called without parentheses.
fn is_bare(name: &str) -> bool {
    matches!(name, "current_timestamp" | "current_user" | "current_schema" | "session_user" | "user")
}

/// The expressions given to a function; `*` is none.
pub(super) fn arguments(call: &ast::Function) -> Result<Vec<&ast::Expr>, SqlError> {
    let ast::FunctionArguments::List(list) = &call.args else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for argument in &list.args {
        match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => found.push(expr),
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) => {}
            other => return Err(SqlError::unsupported(other)),
        }
    }
    Ok(found)
}

/// A name, folded to lower case if it is not quoted.
pub(super) fn fold(name: &ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Plus => Operator::Add,
        BinaryOperator::Minus => Operator::Subtract,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        BinaryOperator::StringConcat => Operator::Concat,
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::Lt => Operator::Less,
        BinaryOperator::LtEq => Operator::LessOrEqual,
        BinaryOperator::Gt => Operator::Greater,
        BinaryOperator::GtEq => Operator::GreaterOrEqual,
        BinaryOperator::And => Operator::And,
        BinaryOperator::Or => Operator::Or,
        _ => return None,
    })
}

/// The type that a name of SQL stands for.
pub(super) fn type_of(data_type: &ast::DataType) -> Result<Type, SqlError> {
    let name = data_type.to_string().to_lowercase();
    let head = name.split(['(', ' ']).next().unwrap_or_default();
    Ok(match head {
        "int" | "int2" | "int4" | "int8" | "integer" | "bigint" | "smallint" | "serial" | "bigserial"
        | "int64" => Type::Int,
        "bool" | "boolean" => Type::Bool,
        "string" | "text" | "varchar" | "char" | "character" => Type::Text,
        "decimal" | "numeric" | "float" | "float8" | "float4" | "double" | "real" => Type::Decimal,
        "bytes" | "bytea" => Type::Bytes,
        "timestamptz" | "timestamp" => Type::Timestamp,
        "interval" => Type::Interval,
        "uuid" => Type::Uuid,
        _ => return Err(SqlError::new("42704", format!("type \"{name}\" does not exist"))),
    })
}

/// The bytes of `b'...'`, where `\xHH` is a byte.
fn escaped_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend(&rest.as_bytes()[..at]);
        match rest.get(at + 2..at + 4).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(rest.as_bytes().get(at..at + 2).unwrap_or_default()),
        }
        rest = rest.get(at + 4..).unwrap_or_default();
    }
    bytes.extend(rest.as_bytes());
    bytes
}
